#!/usr/bin/env bash
# Train with several processes on this machine, which join over the loopback interface:
#   PROCESSES=2 ./launch/processes.sh --config=configs/default.py --workdir=runs/adult
# One process drives all GPUs of a machine (launch/gpus.sh); this is for trying out, without a
# cluster, what several machines do. PORT is the coordinator's; INFANT_SEG names the program.
set -euo pipefail

program=${INFANT_SEG:-$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/infant-seg}
processes=${PROCESSES:-2}
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' INT
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM
for ((process = 0; process < processes; process++)); do
  "$program" train --coordinator="localhost:${PORT:-12321}" --processes="$processes" \
    --process="$process" "$@" &
  pids+=($!)
done

status=0
for pid in "${pids[@]}"; do
  wait "$pid" || status=$?
done
exit "$status"
