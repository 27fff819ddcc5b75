#!/usr/bin/env bash
# Resolves pyproject.toml anew into both lock files; needs uv (pip install uv) and network.
# They are made for Python 3.11 and hold for 3.12 and 3.13.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

resolve() { # extra, platform options …
  local extra=$1
  shift
  uv pip compile pyproject.toml --extra "$extra" --extra dev --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links \
    --custom-compile-command "bash scripts/locks/update.sh" "$@" -o "scripts/locks/$extra.lock"
}

# A folder with torch's CPU wheel, or PyTorch's CPU index.
torch_source=(--extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match)
if [[ -n "${PIP_FIND_LINKS:-}" ]]; then torch_source=(--find-links "$PIP_FIND_LINKS"); fi
resolve cpu --overrides scripts/locks/cpu-overrides.txt "${torch_source[@]}"
resolve cuda --constraints scripts/locks/cuda-constraints.txt
