#!/usr/bin/env bash
# Resolves pyproject.toml anew into both lock files, with the hash of every file that a package index
# has of the pinned versions; needs uv (in .venv after set-up) and network.
# The locks are made for Python 3.11 and hold for 3.12 and 3.13.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

resolve() { # extra, platform options …
  local extra=$1
  shift
  uv pip compile pyproject.toml --extra "$extra" --extra dev --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links \
    --generate-hashes --custom-compile-command "bash scripts/locks/update.sh" "$@" \
    -o "scripts/locks/$extra.lock"
}

# The hashes of torch's CPU wheels are those that PyTorch publishes: where the index is not reached
# and one wheel lies in a folder, the lock must still hold for the other Pythons.
put_hashes_of_torch() { # lock, list of "sha256  file"
  local pin hashes
  pin=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$1")
  hashes=$(awk -v wheel="torch-${pin#torch==}-" \
    'index($2, wheel) == 1 { printf "%s    --hash=sha256:%s", separator, $1; separator = " \\\n" }' "$2")
  [[ -n "$hashes" ]] || {
    echo "$2 has no hashes for $pin: take them from https://download.pytorch.org/whl/cpu/torch/" >&2
    exit 1
  }
  awk -v pin="$pin" -v hashes="$hashes" '
    index($0, pin " ") == 1 { print pin " \\"; print hashes; replacing = 1; next }
    replacing && /^    --hash=/ { next }
    { replacing = 0; print }' "$1" >"$1.new"
  mv "$1.new" "$1"
}

# A folder with torch's CPU wheel, or PyTorch's CPU index.
torch_source=(--extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match)
if [[ -n "${PIP_FIND_LINKS:-}" ]]; then torch_source=(--find-links "$PIP_FIND_LINKS"); fi
resolve cpu --overrides scripts/locks/cpu-overrides.txt "${torch_source[@]}"
put_hashes_of_torch scripts/locks/cpu.lock scripts/locks/torch-cpu.sha256
resolve cuda --constraints scripts/locks/cuda-constraints.txt
