#!/usr/bin/env bash
# Synthetic acoustic scenes: no download, minutes from nothing to a table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="mini: synthetic acoustic scenes"
corpus=mini
db_root=db
feats=cpjku
model=cp_resnet
table=mini
stop_stage=pack
demo=false

recipe_options() {
  if $demo; then
    corpus=demo db_root=$db_root/demo results=exp/demo table=${table:+demo}
    if [[ $train == train ]]; then train=train_demo; fi
  fi
}

stage_download() {
  local options=(--db-root "$db_root")
  if $demo; then options+=(--demo); fi
  do_ python local/download.py "${options[@]}"
}

stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

recipe_report() { # Figure 1 of SpecAugment++
  do_ python -m espnet_like.bin.plot_augment --data "data/$corpus/fold1/test" --dump "$dump" \
    --stats "$dump/stats/fold1/train.json" --seed 155 --out "exp/figures/$name/figure1.png" \
    --augment conf/augment/specaugment_pp_zm.yaml --augment conf/augment/specaugment_pp_mm.yaml \
    --augment conf/augment/specaugment_pp_cm.yaml
}

. ../common/stages.sh
