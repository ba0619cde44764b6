#!/usr/bin/env bash
# Install into .venv with the development tools, check the code, and run the fast tests:
# ./launch/test.sh [--all] [ARGUMENTS OF PYTEST]    With --all, the slow tests, too.
# Arguments go to pytest: ./launch/test.sh -k windows
# INFANT_SEG_TEST_DATA may name a folder of real scans (ibsr18/, infant_bids/) for further tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

chosen=(-m "not slow")
if [ "${1:-}" = --all ]; then
  chosen=()
  shift
else
  # Fast tests compile for longer than they compute. With --all, programs are those of users.
  export JAX_DISABLE_MOST_OPTIMIZATIONS=1
fi

echo "Installing into .venv (a few minutes the first time)." >&2
./launch/install.sh dev
.venv/bin/ruff check
.venv/bin/ruff format --check
# Pyright uses one core for most of a minute, so it runs beside the tests.
.venv/bin/pyright --pythonpath .venv/bin/python &
types=$! status=0
# Neighboring tests go to one worker, because they share what is trained and compiled.
.venv/bin/pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal \
  ${chosen[@]+"${chosen[@]}"} "$@" || status=$?
wait "$types" || status=$?
exit "$status"
