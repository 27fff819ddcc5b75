#!/usr/bin/env bash
# Makes .venv from a lock file; silent when there is nothing to do. On a machine with GPUs the CPU
# packages, which the quickstart and the tests need, lie beside it in .venv-cpu.
#
#   VERL_LOCK=cpu|cuda   which lock (default: cuda where nvidia-smi finds a GPU, else cpu)
#   PYTHON=/path/to/python    which interpreter (default: the first of python3.11 … python3)
#   ROUTER_R1_INSTALLER=pip   without uv, which else is fetched where it is not there
#   ROUTER_R1_FLASH_ATTN=1    also build flash-attn (CUDA only; takes many minutes)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/recipe.sh
source scripts/platform.sh
source scripts/installers.sh

fail() {
  echo "set-up failed: $*" >&2
  exit 1
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

# Once for a set of packages: a build that failed is not tried again at every start.
install_flash_attention() {
  echo "building flash-attn; training works without it, on torch's own attention"
  local outcome=built
  MAX_JOBS=${MAX_JOBS:-4} "$venv"/bin/pip install --no-deps --no-build-isolation flash-attn \
    >>"$venv/install.log" 2>&1 || outcome=failed
  echo "$fingerprint" >"$flash_stamp"
  if [[ $outcome == failed ]]; then
    echo "flash-attn did not build (see $venv/install.log); going on without (rm $flash_stamp tries again)"
  fi
}

# Only a computation shows that driver, GPU and torch fit together.
probe_torch() {
  local answer
  answer=$("$venv"/bin/python -c 'import torch; torch.ones(1, device="cuda").add_(1).item()' 2>&1) && return
  fail "torch cannot use this machine's GPU: $(tail -1 <<<"$answer"). The NVIDIA driver is $(
    nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1
  ), $(grep '^torch==' "$lock_file") is built for CUDA $(
    "$venv"/bin/python -c 'import torch; print(torch.version.cuda)' 2>/dev/null
  ): update the driver, or train on the CPU with RECIPE=quickstart bash train.sh"
}

# Triton compiles when a run starts, not now.
warn_of_missing_compiler() {
  local header
  command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
    echo "warning: no C compiler found; vLLM and torch need one on a GPU when a run starts (Debian: apt install gcc)"
  header=$("$venv"/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [[ -f "$header" ]] ||
    echo "warning: $header is missing; vLLM and torch need it on a GPU when a run starts (Debian: apt install python3-dev)"
}

is_installed() { # stamp
  [[ -x $venv/bin/python && "$(cat "$1" 2>/dev/null)" == "$fingerprint" ]]
}

is_complete() {
  is_installed "$stamp" && { [[ $wants_flash == 0 ]] || is_installed "$flash_stamp"; }
}

require_wheels
choose_packages
lock=$VERL_LOCK
venv=$VENV
lock_file=scripts/locks/$lock.lock
[[ -f $lock_file ]] || fail "VERL_LOCK=$lock is unknown; choose cpu or cuda"
stamp=$venv/installed
flash_stamp=$venv/flash-attn
wants_flash=0
if [[ $lock == cuda && "${ROUTER_R1_FLASH_ATTN:-0}" == 1 ]]; then wants_flash=1; fi
fingerprint="$lock $(cat "$lock_file" pyproject.toml | sha256sum | cut -d' ' -f1)"
if is_complete; then exit 0; fi

exec 9>.setup.lock
if command -v flock >/dev/null; then flock 9; fi
if is_complete; then exit 0; fi

if ! is_installed "$stamp"; then
  python=$(choose_python)
  # pip keeps all downloads in TMPDIR until it installs them: 4.2 GB for CUDA.
  if [[ $lock == cuda ]]; then needed_gib=30 download_gib=6; else needed_gib=8 download_gib=3; fi
  if [[ ! -d $venv/lib ]]; then
    require_disk . "$needed_gib"
    require_disk "${TMPDIR:-/tmp}" "$download_gib"
  fi
  # The two builds of vLLM are one module: neither is installed over the other.
  fresh=()
  if [[ -f $stamp && "$(cat "$stamp")" != "$lock "* ]]; then fresh=(--clear); fi
  if [[ ! -x $venv/bin/python || ${#fresh[@]} -gt 0 ]]; then
    "$python" -m venv --without-pip "${fresh[@]}" "$venv" ||
      fail "$python cannot make a virtual environment"
  fi
  log=$venv/install.log
  : >"$log"
  find_uv "$python" "$lock_file" "$log"
  installer="pip (2 to 4 minutes)"
  if [[ -n "$uv" ]]; then installer="uv (under a minute, plus downloads)"; fi
  echo "installing the $lock packages into $venv with $("$python" --version) and $installer"
  if [[ -z "$uv" ]] || ! install_by_uv "$python" "$lock_file" "$log"; then
    if [[ -n "$uv" ]]; then echo "uv cannot install them (see $log); trying pip"; fi
    install_by_pip "$python" "$lock_file" "$log"
  fi
  if [[ $lock == cuda ]]; then
    warn_of_missing_compiler
    if has_gpu; then probe_torch; fi
  fi
  echo "$fingerprint" >"$stamp"
fi
if [[ $wants_flash == 1 ]]; then install_flash_attention; fi
