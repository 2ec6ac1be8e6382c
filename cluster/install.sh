#!/usr/bin/env bash
# Installs the package, Ray's dashboard and storage by URL into the active Python 3.11 environment, in
# the versions of constraints.txt: cluster/install.sh [MORE PIP REQUIREMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
# Builds for CPUs come first: +cpu counts as a later version than the plain one, which brings CUDA.
python -m pip install --extra-index-url https://download.pytorch.org/whl/cpu \
  -c constraints.txt torch '.[cloud]' 'ray[default]' "$@"
