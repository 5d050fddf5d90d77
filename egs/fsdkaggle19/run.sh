#!/usr/bin/env bash
# FSDKaggle2019: UPB's tagger. Fifteen models relabel the noisy clips, six more are the system.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

title="FSDKaggle2019"
corpus=fsdkaggle19
db_root=db
feats=upb
model=crnn
augment=upb
table=table2
stop_stage=pack
folds="1 2 3" # of the relabelled corpus: its splits
relabel_folds= # all fifteen; in the demo one of each split
relabel_seed=0
test_set=test_public
drop_known_bad=true
max_seconds=30
stages=(
  download data feats stats train_folds relabel train_final infer score ensemble report pack
)
demo=false

recipe_help() {
  echo "  --test-set NAME    test_public (the report's), test_private or test (default: $test_set)"
  echo "  --relabel-folds \"1 2 ..\"  models that relabel: fold (n - 1) mod 5 of split (n - 1) div 5"
  echo "                     (default: all 15)"
  echo "  --relabel-seed N   their seed; --seeds is about the system (default: $relabel_seed)"
  echo "  --drop-known-bad false    train on the clips that the publisher found to be bad, too"
  echo "  --max-seconds N    longest clip to train on (default: $max_seconds)"
}

# check_numbers OPTION "NUMBER .." LAST: what is wrong is said now, and not after days.
check_numbers() {
  local number
  for number in ${2//,/ }; do
    if [[ ! $number =~ ^[1-9][0-9]?$ ]] || ((number > $3)); then
      fail "$1: $number is not one of 1 to $3"
    fi
  done
}

# apart WORDS: results go to a page that says so.
apart() {
  title+=", $1" results=$results/${1// /_}
}

# Other clips or labels than the report's have data, runs and a page of their own: going back to the
# report's trains nothing again.
other_clips() {
  apart "$1"
  clips+=+${1// /_}
}

other_labels() {
  apart "relabelled $1"
  labels+=+${1// /_}
}

recipe_options() {
  local all_relabel
  all_relabel=$(seq -s ' ' 15)
  if $demo; then
    if [[ $model == crnn ]]; then model=crnn_small; fi
    table=${table:+demo} all_relabel="1 6 11"
  fi
  if $valid; then fail "--valid: no part is held out to choose an epoch, as in the report"; fi
  local clips='' labels=''
  if [[ $relabel_folds && $relabel_folds != "$all_relabel" ]]; then
    other_labels "by folds $relabel_folds"
  fi
  if [[ $relabel_seed != 0 ]]; then other_labels "with seed $relabel_seed"; fi
  if ! $drop_known_bad; then other_clips "with known bad clips"; fi
  if [[ $max_seconds != 30 ]]; then other_clips "clips of up to $max_seconds s"; fi
  relabel_folds=${relabel_folds:-$all_relabel}
  check_numbers --relabel-folds "$relabel_folds" 15
  check_numbers --folds "$folds" 3
  if [[ ! $test_set =~ ^test(_public|_private)?$ ]]; then
    fail "--test-set $test_set: choose test_public, test_private or test"
  fi
  if [[ $test_set != test_public ]]; then
    apart "$test_set"
    title+=" (published values: test_public)"
  fi
  relabelled=${corpus}_relabelled$clips$labels corpus+=$clips
  published=$corpus norm=data/$corpus/norm system=$table splits=$folds repeats=$seeds
}

# What is scored are the clips that the page will name.
check_test_set() {
  local scored=data/$corpus/fold${folds%%[ ,]*}/test/utt2labels
  if ! $dry_run && [[ -f $scored ]] && ! cmp -s "$scored" "data/$published/$test_set/utt2labels"; then
    fail "$scored: not the clips of $test_set: run --stage relabel --test-set $test_set" 3
  fi
}

# Up to the relabelling, stages are about the published corpus and the models that relabel, which
# no table has; then about the relabelled corpus and the table.
recipe_stage() {
  case $1 in
    train_final | infer | score | ensemble | report | pack)
      corpus=$relabelled table=$system folds=$splits seeds=$repeats
      if [[ $1 != train_final ]]; then check_test_set; fi
      ;;
    *) corpus=$published table='' folds=$relabel_folds seeds=$relabel_seed ;;
  esac
  name=${table:-${model}_${augment}}_$corpus
  plans=exp/plans/$name logs=exp/log/$name
}

recipe_plan() {
  recipe_stage train_folds
  plan_ all
  recipe_stage train_final
  plan_ all
}

stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus")
  options+=(--drop-known-bad "$drop_known_bad" --max-seconds "$max_seconds")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

stage_train_folds() { train_ train; }

stage_relabel() {
  plan_ train
  if [[ $planned == [1-9]* ]]; then
    fail "stage relabel: $planned of its models are not trained: run --stage train_folds" 3
  fi
  plan_ all
  jobs_ --num-threads "$threads" --gpu "$ngpu" "JOB=1:$planned" "$logs/noisy.JOB.log" \
    python -m espnet_like.bin.infer --plan "$plans/all.jsonl" --job JOB --device "$device" \
    --sets "data/$corpus/noisy_s0" "data/$corpus/noisy_s1" "data/$corpus/noisy_s2"
  local options=(--sets noisy_s0 noisy_s1 noisy_s2 --test "$test_set")
  if $demo; then options+=(--truth noisy_true); fi
  do_ python -m espnet_like.bin.relabel --plan "$plans/all.jsonl" \
    --data "data/$corpus" --out "data/$relabelled" "${options[@]}"
}

stage_train_final() {
  if ! $dry_run && [[ ! -f data/$corpus/prepared.json ]]; then
    fail "data/$corpus is not there: run --stage relabel" 3
  fi
  train_ train
}

stage_ensemble() {
  plan_ all
  local options=(--plan "$plans/all.jsonl")
  if [[ $table ]]; then options+=(--table "$table"); fi
  do_ python -m espnet_like.bin.ensemble "${options[@]}"
}

. ../common/stages.sh
