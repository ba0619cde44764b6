#!/usr/bin/env bash
# Measure the network on a GPU in a few minutes, against PyTorch, and what makes up its time:
#   benchmarks/gpu.sh --minutes=4 --output=results
# PYTHON names the Python that has the package, JAX for the GPU and PyTorch. gpu.py says what is measured.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$root/benchmarks/gpu.py" "$@"
