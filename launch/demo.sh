#!/usr/bin/env bash
# Install into .venv, then train, fine-tune, predict and evaluate on phantoms made on the spot.
# Flags go to the demo: ./launch/demo.sh --output=demo --seed=0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "Installing into .venv (a few minutes the first time)." >&2
./launch/install.sh
.venv/bin/infant-seg demo "$@"
