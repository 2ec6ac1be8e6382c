#!/usr/bin/env bash
# Joins this host to a head: cluster/plain-worker.sh HEAD_ADDRESS PRIVATE_ADDRESS [OPTIONS OF ray start]
set -euo pipefail
usage='usage: cluster/plain-worker.sh HEAD_ADDRESS PRIVATE_ADDRESS [OPTIONS OF ray start]'
head=${1:?$usage}
address=${2:?$usage}
shift 2

python - "$address" <<'PYTHON'
import ipaddress, sys

if not ipaddress.ip_address(sys.argv[1]).is_private:
    sys.exit(f"error: {sys.argv[1]} is not a private address; Ray must not face the world")
PYTHON

export RAY_AUTH_MODE=token
if ! ray get-auth-token > /dev/null 2>&1; then
  echo "error: copy ~/.ray/auth_token of $head to this host first" >&2
  exit 1
fi

[[ $head == *:* ]] || head=$head:6379
exec ray start --address="$head" --node-ip-address="$address" --disable-usage-stats "$@"
