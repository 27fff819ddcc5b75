#!/usr/bin/env bash
# Makes .venv from a lock file; silent when there is nothing to do.
#
#   ROUTER_R1_LOCK=cpu|cuda   which lock (default: cuda where nvidia-smi finds a GPU, else cpu)
#   PYTHON=/path/to/python    which interpreter (default: the first of python3.11 … python3)
#   ROUTER_R1_FLASH_ATTN=1    also build flash-attn (CUDA only; takes many minutes)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "set-up failed: $*" >&2
  exit 1
}

choose_lock() {
  if [[ -n "${ROUTER_R1_LOCK:-}" ]]; then
    [[ -f "scripts/locks/$ROUTER_R1_LOCK.lock" ]] ||
      fail "ROUTER_R1_LOCK=$ROUTER_R1_LOCK is unknown; choose cpu or cuda"
    echo "$ROUTER_R1_LOCK"
  elif nvidia-smi -L >/dev/null 2>&1; then
    echo cuda
  else
    echo cpu
  fi
}

choose_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  local found
  found=$("${PYTHON:-python3}" --version 2>&1) || found="no Python"
  fail "Python 3.11, 3.12 or 3.13 is needed, found: $found; install it or set PYTHON=/path/to/python"
}

require_disk() { # folder, GiB
  local free_kib
  free_kib=$(df -Pk "$1" | awk 'NR == 2 { print $4 }')
  ((free_kib >= $2 * 1024 * 1024)) ||
    fail "$1 has $((free_kib / 1024 / 1024)) GiB free, the installation needs $2 GiB"
}

show_progress() { # process id, log, number of packages
  while kill -0 "$1" 2>/dev/null; do
    [[ -t 1 ]] && printf '\r  %d of %d packages' "$(grep -c '^Collecting' "$2" || true)" "$3"
    sleep 1
  done
  [[ -t 1 ]] && printf '\r\033[K'
  wait "$1"
}

install_lock() { # lock file
  local log=.venv/install.log torch_pin
  torch_pin=$(awk '/^torch==/ { print $1 }' "$1")
  : >"$log"
  # A CPU build of torch is on PyTorch's own index, unless the configured one offers it.
  if [[ "$torch_pin" == *+cpu ]]; then
    .venv/bin/pip install --no-deps "$torch_pin" >"$log" 2>&1 ||
      .venv/bin/pip install --no-deps "$torch_pin" \
        --index-url https://download.pytorch.org/whl/cpu >>"$log" 2>&1 ||
      fail "pip cannot get $torch_pin, neither from its configured index nor from
download.pytorch.org: $(grep -E '^ERROR' "$log" | tail -1); see $log"
  fi
  .venv/bin/pip install --no-deps -r "$1" >>"$log" 2>&1 &
  show_progress $! "$log" "$(grep -cE '^[A-Za-z0-9]' "$1")" ||
    fail "pip cannot install $1: $(grep -E '^ERROR' "$log" | tail -1); see $log"
  .venv/bin/pip install --no-deps --no-build-isolation -e . >>"$log" 2>&1 ||
    fail "pip cannot install this project: $(tail -1 "$log"); see $log"
}

install_flash_attention() {
  echo "building flash-attn; training works without it, on torch's own attention"
  MAX_JOBS=${MAX_JOBS:-4} .venv/bin/pip install --no-deps --no-build-isolation flash-attn \
    >>.venv/install.log 2>&1 || echo "flash-attn did not build (see .venv/install.log); going on without"
}

lock=$(choose_lock)
lock_file=scripts/locks/$lock.lock
stamp=.venv/installed
fingerprint="$lock $(cat "$lock_file" pyproject.toml | sha256sum | cut -d' ' -f1)"
if [[ -x .venv/bin/python && -f $stamp && "$(cat $stamp)" == "$fingerprint" ]]; then
  exit 0
fi

exec 9>.setup.lock
if command -v flock >/dev/null; then flock 9; fi
if [[ -f $stamp && "$(cat $stamp)" == "$fingerprint" ]]; then
  exit 0
fi
python=$(choose_python)
[[ $lock == cuda ]] && needed_gib=30 || needed_gib=8
if [[ ! -d .venv/lib ]]; then
  require_disk . "$needed_gib"
  require_disk "${TMPDIR:-/tmp}" 3
fi
echo "installing the $lock packages into .venv with $("$python" --version) (2 to 4 minutes)"
if [[ ! -x .venv/bin/pip ]]; then
  "$python" -m venv .venv || fail "python -m venv does not work here; on Debian: apt install python3-venv"
fi
install_lock "$lock_file"
if [[ $lock == cuda && "${ROUTER_R1_FLASH_ATTN:-0}" == 1 ]]; then install_flash_attention; fi
echo "$fingerprint" >"$stamp"
