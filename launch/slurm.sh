#!/usr/bin/env bash
#SBATCH --job-name=infant-seg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
# Train over the GPUs of several nodes, a process for each GPU; what is above can be overridden:
#   sbatch --nodes=4 launch/slurm.sh --config=configs/default.py --workdir=runs/adult
# Three minutes before its time is up it saves; submitted again, it goes on.
# INFANT_SEG names the program, by default that of ./launch/install.sh in the folder of submission.
set -euo pipefail
srun "${INFANT_SEG:-${SLURM_SUBMIT_DIR:-.}/.venv/bin/infant-seg}" train --distributed "$@"
