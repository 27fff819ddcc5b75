#!/usr/bin/env bash
# Measures speed and size claims side by side, into benchmarks/results and benchmarks/README.md. Two
# cores need 20 minutes, and 3 more where the cold start is not in the cache. --check compares with
# what is kept; see benchmarks/run.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Two cores are what the figures are about, also where there is a GPU.
source scripts/recipe.sh
choose_packages trainer.device=cpu
if has_gpu; then export CUDA_VISIBLE_DEVICES=""; fi
bash scripts/setup.sh
exec "$VENV"/bin/python -m benchmarks.run "$@"
