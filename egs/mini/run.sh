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
  if $demo; then table=${table:+demo}; fi
}

stage_download() {
  local options=(--db-root "$db_root")
  if $demo; then options+=(--demo); fi
  do_ python local/download.py "${options[@]}"
}

recipe_report() { # Figure 1 of SpecAugment++
  do_ python -m espnet_like.bin.plot_augment --data "data/$corpus/fold1/test" --dump "$dump" \
    --stats "$dump/stats/fold1/train.json" --seed 155 --out "exp/figures/$name/figure1.png" \
    --augment ../common/conf/augment/specaugment_pp_zm.yaml \
    --augment ../common/conf/augment/specaugment_pp_mm.yaml \
    --augment ../common/conf/augment/specaugment_pp_cm.yaml
}

. ../common/stages.sh
