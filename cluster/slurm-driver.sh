#!/usr/bin/env bash
# What `ray symmetric-run` runs on the first node: cluster/slurm-driver.sh FILE RESULTS_FOLDER
set -euo pipefail
echo $$ > "$DRIVER_PID_FILE" # stays the same through exec

# Read here and not in the job's environment, which Slurm stores and every node gets.
key_file=$HOME/.config/rllib_lpdm/wandb_api_key
if [[ -r $key_file ]]; then
  WANDB_API_KEY=$(< "$key_file")
  export WANDB_API_KEY
fi

exec python -m rllib_lpdm.tune "$1" --address auto --output "$2" --resume
