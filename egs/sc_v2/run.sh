#!/usr/bin/env bash
# Speech Commands V2: 35 words of a second, or ten of them, unknown and silence.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="Speech Commands V2"
corpus=sc_v2
task=35
db_root=db
feats=ssast_fbank
model=ssast_base_patch
augment=ssast
valid=true
stages=(download data feats stats pretrain train infer score report pack)
demo=false

recipe_help() {
  echo "  --task 12          ten commands, unknown words and silence, with the test set of their own
  --valid false      score the last epoch; the validation list is not used then"
}

recipe_options() {
  [[ $task == 35 || $task == 12 ]] || fail "--task $task: choose 35 or 12"
  if [[ $task == 12 ]]; then
    overrides=(--model.num_classes 12 "${overrides[@]}")
    title="Speech Commands V2, twelve classes"
    if $demo; then
      corpus=demo_12
    else
      corpus=sc_v2_12 results=task12 # rows of the same name as those of 35 would take their place
    fi
  fi
  if ! $valid; then overrides=(--train.selection last "${overrides[@]}"); fi
  if $demo; then
    if [[ $model == ssast_base_patch ]]; then model=ssast_tiny_patch; fi
    if [[ $model == ssast_* ]]; then pretrain=${pretrain:-pretrain_demo}; fi
  fi
}

stage_download() {
  if $demo; then
    do_ python local/demo.py --db-root "$db_root"
    return
  fi
  local tables=(local/archives.tsv) table
  if [[ $task == 12 ]]; then tables+=(local/archives_12.tsv); fi
  for table in "${tables[@]}"; do
    do_ python -m espnet_like.bin.download "$table" --db-root "$db_root"
  done
}

stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus" --task "$task")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

. ../common/stages.sh
