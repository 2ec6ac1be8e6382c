#!/usr/bin/env bash
# The driver, on the head: cluster/aws-run.sh BUCKET [FILE]
set -euo pipefail
bucket=${1:?usage: cluster/aws-run.sh BUCKET [FILE]}
cd "$(dirname "$0")/.."

# Only the driver logs, so the key stays in the parameter store until the driver starts.
WANDB_API_KEY=$(
  python - <<'PYTHON'
import boto3

ssm = boto3.client("ssm")
try:
    answer = ssm.get_parameter(Name="/rllib-lpdm/wandb-api-key", WithDecryption=True)
    print(answer["Parameter"]["Value"])
except ssm.exceptions.ParameterNotFound:
    pass
PYTHON
)
if [[ -n $WANDB_API_KEY ]]; then
  export WANDB_API_KEY
fi

export RAY_AUTH_MODE=token
exec python -m rllib_lpdm.tune "${2:-tune_configs/grid.yaml}" \
  --address auto --output "s3://$bucket" --resume
