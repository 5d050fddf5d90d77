#!/usr/bin/env bash
# DCASE 2019 Task 1A: ten scenes in ten cities, fold 1 of the development set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="TAU Urban Acoustic Scenes 2019"
corpus=dcase19
db_root=db
feats=cpjku
model=cp_resnet
augment=specaugment_pp_mm
demo=false

recipe_options() {
  if [[ $features == features_mono ]]; then feats=cpjku_mono waves=waves_mono; fi
  if $demo && [[ $model == cp_resnet ]]; then model=cp_resnet_b32; fi
}

. ../common/stages.sh
