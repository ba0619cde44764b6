#!/usr/bin/env bash
# Make .venv beside this folder and install the package into it, with the versions that were
# tested: ./launch/install.sh [EXTRA[,EXTRA...]]   (cuda12, cuda13, tpu, n4, wandb, mlflow, benchmarks, dev)
# PYTHON names the interpreter, 3.11 or later; by default the python3 on the path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "infant_seg_jax needs Python 3.11 or later, but $python is $("$python" --version 2>&1)." \
    "Set PYTHON to a newer one." >&2
  exit 1
fi
[ -x .venv/bin/pip ] || "$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --editable ".${1:+[$1]}"
