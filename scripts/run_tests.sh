#!/usr/bin/env bash
# Runs all checks: format, lint, types, tests. Arguments go to pytest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh || exit 1

status=0
.venv/bin/ruff format --check --quiet . || { echo "ruff format: run .venv/bin/ruff format"; status=1; }
.venv/bin/ruff check --quiet . || status=1
.venv/bin/mypy || status=1
.venv/bin/python -m pytest "$@" || status=1
exit $status
