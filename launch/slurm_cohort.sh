#!/usr/bin/env bash
#SBATCH --job-name=infant-seg
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
# Label a BIDS dataset in shards, one for each task of an array; what is above can be overridden:
#   sbatch --array=1-16 launch/slurm_cohort.sh 16 BIDS_DIR OUTPUT_DIR [OPTION...]
# The options are those of infant-seg-bids. Tasks that died go on when they are submitted again, as
# with --array=3,7. When all are done, gather the table and draw the report:
#   infant-seg-bids BIDS_DIR OUTPUT_DIR group
# INFANT_SEG_BIDS names the program, by default that of ./launch/install.sh in the folder of submission.
set -euo pipefail
if [ $# -lt 3 ] || [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
  echo "usage: sbatch --array=1-N launch/slurm_cohort.sh N BIDS_DIR OUTPUT_DIR [OPTION...]" >&2
  exit 2
fi
shards=$1 dataset=$2 output=$3
shift 3
exec "${INFANT_SEG_BIDS:-${SLURM_SUBMIT_DIR:-.}/.venv/bin/infant-seg-bids}" "$dataset" "$output" participant \
  --shard "$SLURM_ARRAY_TASK_ID/$shards" --threads "${SLURM_CPUS_PER_TASK:-1}" "$@"
