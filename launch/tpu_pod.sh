#!/usr/bin/env bash
# Train on all hosts of a TPU pod slice of Google Cloud, on which this repository lies in
# ~/infant_seg_jax, installed there with ./launch/install.sh tpu:
#   TPU=my-slice ZONE=europe-west4-b ./launch/tpu_pod.sh --config=configs/default.py \
#     --workdir=/shared/runs/adult
# The run folder and the prepared set must be on a disk that all hosts share.
set -euo pipefail
: "${TPU:?names the TPU slice}" "${ZONE:?names its zone}"
printf -v arguments ' %q' "$@"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
  --command="cd infant_seg_jax && .venv/bin/infant-seg train --distributed$arguments"
