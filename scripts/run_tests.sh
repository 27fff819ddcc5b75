#!/usr/bin/env bash
# Runs all checks: format, lint, types, layers, tests. Arguments go to pytest.
# The report's page is tested where a Chromium is installed; in CI (CI=true, root, apt) it is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The tests run on the CPU, also where there is a GPU.
source scripts/recipe.sh
choose_packages trainer.device=cpu
# Ray's workers yield to everyone by default: a run would wait for the quick tests beside it.
export RAY_worker_niceness=0
# Nor do the clusters that tests start have workers in reserve: few tests would use them.
export RAY_prestart_worker_first_driver=0
# Engines beside each other on few cores: threads that wait for one another sleep, where they would
# spin by default.
export OMP_WAIT_POLICY=passive
if has_gpu; then export CUDA_VISIBLE_DEVICES=""; fi
browser() {
  [[ "${CI:-}" == true && $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 0
  command -v chromium >/dev/null && return 0
  { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
    echo "chromium cannot be installed: the tests of the report's page are skipped"
}
browser &
installing=$!
bash scripts/setup.sh || exit 1
wait $installing

# The checks take one core for a minute, while the tests wait for processes to start.
checks() {
  local status=0
  "$VENV"/bin/ruff format --check --quiet . || { echo "ruff format: run $VENV/bin/ruff format"; status=1; }
  "$VENV"/bin/ruff check --quiet . || status=1
  "$VENV"/bin/mypy || status=1
  "$VENV"/bin/lint-imports --no-logo --no-cache || status=1
  return $status
}
said=$(mktemp)
trap 'rm -f "$said"' EXIT
checks >"$said" 2>&1 &
checking=$!

status=0
# Two at a time: most tests wait for processes to start, on one core. -n 0 runs them one by one.
"$VENV"/bin/python -m pytest -n 2 --no-loadscope-reorder "$@" || status=1
wait $checking || { cat "$said"; status=1; }
exit $status
