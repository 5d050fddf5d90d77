#!/usr/bin/env bash
# SECL-UMONS: single sound events in two rooms, one microphone of the array.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="SECL-UMONS"
corpus=secl_umons
split=1
db_root=db
feats=logmel_deltas
model=resnet101
augment=specmix
demo=false

recipe_help() {
  echo "  --split 2          the published split whose test part has subclasses of its own"
}

recipe_options() {
  [[ $split == 1 || $split == 2 ]] || fail "--split $split: choose 1 or 2"
  if [[ $split == 2 ]] && ! $demo; then
    title="SECL-UMONS, split 2" corpus=secl_umons_split2
    results=split2 # rows of the same name as split 1's would take their place
  fi
  if $demo && [[ $model == resnet101 ]]; then model=resnet_small; fi
}

stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus" --split "$split")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

. ../common/stages.sh
