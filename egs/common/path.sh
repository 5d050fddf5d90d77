# shellcheck shell=bash
# The environment of a recipe: set up on first use, then python, utils/ and the package on the path.
# ESPNET_LIKE_ENV=active uses the environment that is active instead of tools/venv.

_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [[ ${ESPNET_LIKE_ENV:-venv} != active ]]; then
  "$_root/tools/install.sh" >&2
  export PATH="$_root/tools/venv/bin:$PATH"
fi
export PATH="$_root/utils:$PATH"
export PYTHONPATH="$_root${PYTHONPATH:+:$PYTHONPATH}"
export LC_ALL=C.UTF-8
