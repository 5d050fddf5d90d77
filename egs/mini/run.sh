#!/usr/bin/env bash
# Synthetic acoustic scenes: no download, minutes from nothing to a table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="mini: synthetic acoustic scenes"
corpus=mini
db_root=db
feats=cpjku
model=cp_resnet
augment=specaugment_pp_mm
table=mini
folds=1

stage_download() {
  do_ python local/download.py --db-root "$db_root"
}

stage_data() {
  do_ python local/data.py --db-root "$db_root" --out "data/$corpus"
}

. ../common/stages.sh
