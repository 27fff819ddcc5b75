# Sourced by setup.sh: puts packages of a lock file into $venv, by uv or by pip. Both check the
# hashes of what they download and go where pip is configured to go.

pytorch_index=https://download.pytorch.org/whl/cpu

# The lines of one package in a lock file, with its hashes.
locked() { # package, lock file
  awk -v pin="$1==" 'index($0, pin) == 1 { inside = 1; print; next }
    inside && /^    --hash=/ { print; next } { inside = 0 }' "$2"
}

# Sets uv, or leaves it empty where there is none to be had. A machine without one gets the lock's.
find_uv() { # python, lock file, log
  uv=""
  if [[ "${ROUTER_R1_INSTALLER:-uv}" == pip ]]; then return; fi
  if [[ ! -x $venv/bin/uv ]] && uv=$(command -v uv); then return; fi
  if [[ ! -x $venv/bin/uv ]]; then
    locked uv "$2" >"$venv/uv.lock"
    "$1" -m pip --python "$venv/bin/python" install --no-deps --require-hashes \
      -r "$venv/uv.lock" >>"$3" 2>&1 || true
    rm -f "$venv/uv.lock"
  fi
  if [[ -x $venv/bin/uv ]]; then uv=$venv/bin/uv; fi
}

install_by_uv() { # python, lock file, log
  local python=$1 lock_file=$2 output=$3
  if [[ -t 2 ]]; then output=/dev/stderr; fi # uv draws its own progress
  run_uv() {
    "$python" scripts/pip_settings.py "$uv" pip install --python "$venv/bin/python" \
      --no-deps "$@" >>"$output" 2>&1
  }
  if ! run_uv --require-hashes -r "$lock_file"; then
    needs_pytorch_index "$lock_file" || return 1
    locked torch "$lock_file" >"$venv/torch.lock"
    run_uv --require-hashes -r "$venv/torch.lock" --default-index "$pytorch_index" &&
      run_uv --require-hashes -r "$lock_file" || return 1
    rm -f "$venv/torch.lock"
  fi
  run_uv --no-build-isolation -e .
}

# A CPU build of torch is on PyTorch's own index, unless the configured one offers it.
needs_pytorch_index() { # lock file
  grep -q '^torch==[^ ]*+cpu' "$1"
}

install_by_pip() { # python, lock file, log
  if [[ ! -x $venv/bin/pip ]]; then
    "$1" -m venv "$venv" >>"$3" 2>&1 ||
      fail "python -m venv does not work here; on Debian: apt install python3-venv"
  fi
  if needs_pytorch_index "$2"; then
    local torch=$venv/torch.lock
    locked torch "$2" >"$torch"
    "$venv"/bin/pip install --no-deps --require-hashes -r "$torch" >>"$3" 2>&1 ||
      "$venv"/bin/pip install --no-deps --require-hashes -r "$torch" \
        --index-url "$pytorch_index" >>"$3" 2>&1 ||
      fail "pip cannot get $(awk 'NR == 1 { print $1 }' "$torch"), neither from its configured index nor from
download.pytorch.org: $(grep -E '^ERROR' "$3" | tail -1); see $3"
    rm -f "$torch"
  fi
  "$venv"/bin/pip install --no-deps --require-hashes -r "$2" >>"$3" 2>&1 &
  show_progress $! "$3" "$(grep -cE '^[A-Za-z0-9]' "$2")" ||
    fail "pip cannot install $2: $(grep -E '^ERROR' "$3" | tail -1); see $3"
  "$venv"/bin/pip install --no-deps --no-build-isolation -e . >>"$3" 2>&1 ||
    fail "pip cannot install this project: $(tail -1 "$3"); see $3"
}

show_progress() { # process id, log, number of packages
  while kill -0 "$1" 2>/dev/null; do
    [[ -t 1 ]] && printf '\r  %d of %d packages' "$(grep -c '^Collecting' "$2" || true)" "$3"
    sleep 1
  done
  [[ -t 1 ]] && printf '\r\033[K'
  wait "$1"
}
