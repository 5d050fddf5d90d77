#!/usr/bin/env bash
# ESC-50 and its subset ESC-10: five official folds, mean accuracy over them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="ESC-50"
corpus=esc50
subset=esc50
db_root=db
feats=cpjku
model=cp_resnet
augment=specaugment_pp_mm
folds="1 2 3 4 5"
stages=(download data feats stats pretrain train infer score report pack)
demo=false

recipe_help() {
  echo "  --subset esc10     the 400 clips of ten classes instead of the 2,000 of fifty"
}

recipe_options() {
  $demo || corpus=$subset
  [[ $subset == esc50 || $subset == esc10 ]] || fail "--subset $subset: choose esc50 or esc10"
  local own="^features: features_ssast$" # SSAST has its own front end and training
  if [[ $model == ssast_* ]] || grep -qs "$own" "conf/tables/$table.yaml"; then
    feats=ssast_fbank features=features_ssast waves=waves_ssast
    if [[ $train == train ]]; then train=train_ssast; fi
    if [[ $subset == esc10 && ! $table ]]; then
      overrides=(--model.num_classes 10 "${overrides[@]}")
    fi
  fi
  if $demo; then
    if [[ $model == cp_resnet ]]; then model=cp_resnet_b32; fi
    if [[ $model == ssast_* ]]; then
      pretrain=${pretrain:-pretrain_demo}
      if [[ $train == train_demo ]]; then train=train_ssast_demo; fi
    fi
  elif [[ $subset == esc10 && $train == train ]]; then
    train=train_esc10
  fi
}

stage_download() {
  local options=(--db-root "$db_root")
  if $demo; then options+=(--demo); fi
  do_ python local/download.py "${options[@]}"
}

stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus" --subset "$subset")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

. ../common/stages.sh
