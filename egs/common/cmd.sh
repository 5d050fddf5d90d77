# shellcheck shell=bash
# Where jobs run. Give --cmd, or set ESPNET_LIKE_CMD; nothing is guessed from what is on the PATH.
#
#   run.py                       this machine
#   "run.py --max-jobs-run 1"    one job at a time

export cmd=${ESPNET_LIKE_CMD:-run.py}
