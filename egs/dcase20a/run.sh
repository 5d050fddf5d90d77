#!/usr/bin/env bash
# DCASE 2020 Task 1A: ten scenes, nine recorders, three of them unseen; fold 1 of the development set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="TAU Urban Acoustic Scenes 2020 Mobile"
corpus=dcase20a
db_root=db
feats=logmel_deltas
model=resnet101
augment=specmix
demo=false

recipe_options() {
  if $demo && [[ $model == resnet101 ]]; then model=resnet_small; fi
}

. ../common/stages.sh
