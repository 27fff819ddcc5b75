#!/usr/bin/env bash
# Runs all checks: format, lint, types, tests. Arguments go to pytest.
# The report's page is tested where a Chromium is installed; in CI (CI=true, root, apt) it is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh || exit 1

if [[ "${CI:-}" == true && $(id -u) == 0 ]] && command -v apt-get >/dev/null &&
  ! command -v chromium >/dev/null; then
  { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 ||
    echo "chromium cannot be installed: the tests of the report's page are skipped"
fi

status=0
.venv/bin/ruff format --check --quiet . || { echo "ruff format: run .venv/bin/ruff format"; status=1; }
.venv/bin/ruff check --quiet . || status=1
.venv/bin/mypy || status=1
.venv/bin/python -m pytest "$@" || status=1
exit $status
