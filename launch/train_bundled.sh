#!/usr/bin/env bash
# Train the bundled model anew, from label maps to a model folder, in the runs that docs/model_card.md lists:
#   ./launch/train_bundled.sh OUTPUT SCHEMA:LABELS[@SIZE,...]...
#   ./launch/train_bundled.sh bundled freesurfer:INFANTS tissues:TISSUE_MAPS synthseg:ADULTS \
#       bounti:NEWBORN@0.92,0.96,1,1.05 fetal_atlas:FETUSES/fetal_GA28_operated.nii.gz@1.35 ...
# HELD_OUT names the label maps that are not trained on; INFANT_SEG, the program; STEPS, the steps of every run, to try
# it out. It takes eight hours on two CPU cores. If it is interrupted, the same command goes on where it was.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
output=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${INFANT_SEG:-$root/.venv/bin/infant-seg}
anatomies=$output/anatomies
if [ -e "$output/model/model.json" ]; then
  echo "$output/model is finished." >&2
  exit
fi
held_out=${HELD_OUT:-2mo_*,7mo_*,training_seg_06}
"$program" prepare-anatomies --held_out="$held_out" --output="$anatomies" "$@"

# train NAME STEPS FLAGS: the first run starts from nothing, others from the checkpoint that FLAGS name.
train() {
  local name=$1 steps=${STEPS:-$2}
  shift 2
  "$program" train --config="$root/configs/contrast_agnostic.py" --config.rendering.path="$anatomies" \
    --config.data.path="$anatomies/held_out" --config.steps="$steps" --workdir="$output/runs/$name" "$@"
}
# after NAME WHICH WEIGHTS: flags to start from a run.
after() {
  start=(
    --config.init.checkpoint="$output/runs/$1" --config.init.which="$2" --config.init.weights="$3"
    --config.optimizer.schedule=cosine --config.optimizer.warmup=100
  )
}
# With fixed batch statistics, which are those of no batch, on other examples than before.
fixed=(--config.init.batch_norm=freeze --config.optimizer.learning_rate=0.0005 --config.average_decay=0.998)

train first 3133 --config.rendering.unordered=0.35
after first latest averaged
train second 3200 "${start[@]}" --config.rendering.stripped=0.7
after second latest raw
train third 5000 "${start[@]}" --config.rendering.stripped=0.7
after third latest raw
train fourth 6000 "${start[@]}" --config.rendering.stripped=0.7
after fourth latest averaged
# Stopped when a validation brings nothing, long before the last step.
train fifth 6000 "${start[@]}" "${fixed[@]}" --config.seed=1 --config.rendering.stripped=0.7 \
  --config.validate_every=1500 --config.patience=1
after fifth best averaged
train sixth 1400 "${start[@]}" "${fixed[@]}" --config.seed=2 --config.rendering.stripped=0.8

# Noisier and more varied, half the examples newborns.
newborns=(
  --config.rendering.ages="(0.0,1.5,0.0,3.0,5.0,7.0,0.0,60.0)" --config.rendering.loose=0.35
  --config.rendering.rotation=25.0
)
after sixth latest averaged
train seventh 1250 "${start[@]}" "${fixed[@]}" "${newborns[@]}" --config.seed=11 --config.optimizer.schedule=constant \
  --config.rendering.unordered=0.3 --config.rendering.spread=0.07 --config.rendering.fluid_spread=0.1 \
  --config.rendering.texture=0.08 --config.rendering.maturation=0.1 --config.rendering.regions=0.12 \
  --config.rendering.partial_volume=1.2 --config.rendering.bias=0.25 --config.rendering.noise=0.08 \
  --config.rendering.stripped=0.85
after seventh latest averaged
train eighth 800 "${start[@]}" "${fixed[@]}" "${newborns[@]}" --config.seed=12 --config.average_decay=0.995 \
  --config.rendering.unordered=0.2 --config.rendering.spread=0.04 --config.rendering.fluid_spread=0.08 \
  --config.rendering.maturation=0.08 --config.rendering.regions=0.1 --config.rendering.partial_volume=1.0 \
  --config.rendering.noise=0.07 --config.rendering.stripped=0.8
after eighth latest averaged
train ninth 3000 "${start[@]}" "${fixed[@]}" "${newborns[@]}" --config.seed=21 \
  --config.rendering.unordered=0.2 --config.rendering.spread=0.05 --config.rendering.fluid_spread=0.08 \
  --config.rendering.maturation=0.08 --config.rendering.regions=0.1 --config.rendering.partial_volume=1.0 \
  --config.rendering.noise=0.055 --config.rendering.stripped=0.85

# The network that finds the brain in whole heads, which the model brings along.
"$program" prepare-anatomies --spacing_mm=3 --classes=brain --held_out="$held_out" --output="$output/brains" "$@"
"$program" train --config="$root/configs/brain_finder.py" --config.rendering.path="$output/brains" \
  --config.data.path="$output/brains/held_out" --config.steps="${STEPS:-5000}" --workdir="$output/runs/brain_finder"

# The mean of both keeps what the sixth knows of older infants and adults.
"$program" export-model --which=latest --weights=averaged "$output/runs/sixth" "$output/sixth"
"$program" export-model --float16 --which=latest --weights=averaged --shares=0.65,0.35 \
  --brain_finder="$output/runs/brain_finder" "$output/runs/ninth" "$output/sixth" "$output/model"
