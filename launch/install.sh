#!/usr/bin/env bash
# Make .venv beside this folder and install the package into it, with the versions that were
# tested: ./launch/install.sh [EXTRA[,EXTRA...]]   (cuda12, cuda13, tpu, n4, models, nipype,
# wandb, mlflow, benchmarks, docs, dev)
# PYTHON names the interpreter, 3.11 or later; by default the newest tested one that is found, since
# JAX is faster on CPUs from Python 3.12 on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

is_suitable() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local version prefix
  for version in 3.13 3.12; do
    # pyenv has commands of versions that it does not run.
    prefix=$(pyenv prefix "$version" 2>/dev/null) || prefix=
    for python in "python$version" ${prefix:+"$prefix/bin/python$version"}; do
      if is_suitable "$python"; then
        return
      fi
    done
  done
  for python in python3 python3.11; do
    if is_suitable "$python"; then
      return
    fi
  done
  python=python3
}

if [ ! -x .venv/bin/pip ]; then
  python=${PYTHON:-}
  [ -n "$python" ] || find_python
  if ! is_suitable "$python"; then
    echo "infant_seg_jax needs Python 3.11 or later, but $python is $("$python" --version 2>&1)." \
      "Set PYTHON to a newer one." >&2
    exit 1
  fi
  why="PYTHON names it"
  [ -n "${PYTHON:-}" ] || why="the newest found of 3.13, 3.12, python3 and 3.11; PYTHON overrides"
  echo "Using $("$python" --version) ($why)." >&2
  "$python" -m venv .venv
fi
.venv/bin/pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --editable ".${1:+[$1]}"
