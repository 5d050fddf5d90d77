#!/usr/bin/env bash
# Sets up, then runs the linters and all tests; pytest's closing line is the last one. See --help.
set -euo pipefail

fast=false
help_message="usage: test/run.sh [--fast] [pytest arguments]

Makes the environment (tools/install.sh --dev), then runs ruff, mypy, shellcheck and the tests in
test/: unit, golden, shell, recipes, as many at a time as there are cores. All run to their end;
pytest lists what failed.

  --fast    leave out test/recipes

With a path or other arguments, pytest gets those instead: test/run.sh test/unit/test_jobs.py,
test/run.sh -- -k jobs. The environment is tools/venv, or the active one with
ESPNET_LIKE_ENV=active."
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh

# The same run from every shell: no other environment, no other module path, one locale.
if [[ ${ESPNET_LIKE_ENV-} != active ]]; then
  unset VIRTUAL_ENV CONDA_PREFIX
  PATH=$PWD/tools/venv/bin:$PATH
fi
unset PYTHONPATH PYTHONHOME PYTEST_ADDOPTS
export PATH LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1

tools/install.sh --dev
if (($#)); then exec python3 -m pytest "$@"; fi
paths=()
for path in test/*/; do
  if ! $fast || [[ $path != test/recipes/ ]]; then paths+=("$path"); fi
done
exec python3 -m pytest -n logical "${paths[@]}"
