#!/usr/bin/env bash
# Train the bundled model anew, from label maps to a model folder, in the runs that docs/model_card.md lists:
#   ./launch/train_bundled.sh OUTPUT SCHEMA:LABELS[@SIZE,...]...
#   ./launch/train_bundled.sh bundled freesurfer:INFANTS tissues:TISSUE_MAPS synthseg:ADULTS \
#       bounti:NEWBORN@0.92,0.96,1,1.05
# HELD_OUT names the label maps that are not trained on. Seven hours on two CPU cores; if it is interrupted, the same
# command goes on where it was.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
output=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command=${INFANT_SEG:-$root/.venv/bin/infant-seg}
anatomies=$output/anatomies

"$command" prepare-anatomies "$@" --held_out="${HELD_OUT:-2mo_*,7mo_*,training_seg_06}" --output="$anatomies"

# A run starts from the weights of the one before it.
train() {
  local name=$1
  shift
  "$command" train --config="$root/configs/contrast_agnostic.py" --config.rendering.path="$anatomies" \
    --config.data.path="$anatomies/held_out" --workdir="$output/runs/$name" "$@"
}
after() {
  echo --config.init.checkpoint="$output/runs/$1" --config.init.which=latest --config.init.weights="$2"
}
cosine=(--config.optimizer.schedule=cosine --config.optimizer.warmup=100)
fixed=(--config.init.batch_norm=freeze --config.optimizer.learning_rate=0.0005)

train first --config.rendering.unordered=0.35 --config.steps="${STEPS:-3133}"
train second $(after first averaged) "${cosine[@]}" --config.rendering.stripped=0.7 --config.steps="${STEPS:-3200}"
train third $(after second raw) "${cosine[@]}" --config.rendering.stripped=0.7 --config.steps="${STEPS:-5000}"
train fourth $(after third raw) "${cosine[@]}" --config.rendering.stripped=0.7 --config.steps="${STEPS:-6000}"
train fifth $(after fourth averaged) "${cosine[@]}" "${fixed[@]}" --config.seed=1 \
  --config.rendering.stripped=0.7 --config.steps="${STEPS:-1500}"
