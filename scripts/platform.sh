# Sourced by setup.sh: whether torch and vLLM have wheels for this machine.

oldest_glibc=2.28 # of the wheels in the lock files

# Ends set-up at once where they have none, and says what works there.
require_wheels() {
  local found
  found=$(missing_for_wheels)
  [[ -z "$found" ]] || fail "$found.
torch, ray and vLLM, which training needs, have packages for Linux with glibc $oldest_glibc or newer on
64-bit x86_64 or aarch64. What works here:
  a Linux container   docker run -it --shm-size=2g -v \"\$PWD\":/router-r1 -w /router-r1 python:3.11 bash train.sh
  the tests of pool, reward and data, without set-up:
    python3 -m venv .venv-portable
    .venv-portable/bin/pip install -r scripts/locks/portable.txt
    .venv-portable/bin/python -m pytest $(portable_tests)"
}

# What this machine is, if that rules out the wheels; else nothing.
missing_for_wheels() {
  local system machine glibc
  system=$(uname -s) machine=$(uname -m)
  if [[ "$system" != Linux ]]; then
    echo "this machine runs ${system/Darwin/macOS} ($machine)"
  elif [[ "$machine" != x86_64 && "$machine" != aarch64 ]]; then
    echo "this machine's processor is $machine"
  elif [[ "$(getconf LONG_BIT)" != 64 ]]; then
    echo "this system is a 32-bit one"
  elif ! glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null); then
    echo "this system has no glibc (musl, as Alpine does)"
  elif [[ "$(printf '%s\n' "$oldest_glibc" "${glibc#glibc }" | sort -V | head -1)" != "$oldest_glibc" ]]; then
    echo "this system has $glibc"
  fi
}

# Test files that need neither torch nor ray nor vLLM.
portable_tests() {
  sed -n 's/^# tests: //p' scripts/locks/portable.txt
}
