#!/usr/bin/env bash
# DCASE 2020 Task 1B: three classes, a model of 500 KB at most; fold 1 of the development set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="TAU Urban Acoustic Scenes 2020 3Class"
corpus=dcase20b
db_root=db
feats=cpjku
model=shared_resnet_ssn
augment=mixup_freqmix
finetune=prune
stages=(download data feats stats train prune compress infer score report pack)
demo=false

recipe_options() {
  if $demo && [[ $model == shared_resnet_ssn ]]; then model=shared_resnet_small; fi
  if $demo && [[ $finetune == prune ]]; then finetune=prune_demo; fi
}

. ../common/stages.sh
