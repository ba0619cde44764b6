#!/usr/bin/env bash
# Train on all GPUs of this machine, or on those that CUDA_VISIBLE_DEVICES names:
#   ./launch/gpus.sh --config=configs/default.py --workdir=runs/adult
# INFANT_SEG names the program, by default that of ./launch/install.sh.
set -euo pipefail
exec "${INFANT_SEG:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/infant-seg}" train "$@"
