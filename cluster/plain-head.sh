#!/usr/bin/env bash
# Starts Ray's head on this host: cluster/plain-head.sh PRIVATE_ADDRESS [OPTIONS OF ray start]
set -euo pipefail
address=${1:?usage: cluster/plain-head.sh PRIVATE_ADDRESS [OPTIONS OF ray start]}
shift

python - "$address" <<'PYTHON'
import ipaddress, sys

if not ipaddress.ip_address(sys.argv[1]).is_private:
    sys.exit(f"error: {sys.argv[1]} is not a private address; Ray must not face the world")
PYTHON

# Whoever has the token can run code on the cluster; without one, whoever reaches its ports can.
export RAY_AUTH_MODE=token
umask 077
ray get-auth-token --generate > /dev/null

# A later option wins, so "$@" can change all of these but the token.
exec ray start --head --node-ip-address="$address" --port=6379 \
  --dashboard-host=127.0.0.1 --disable-usage-stats "$@"
