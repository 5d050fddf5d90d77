# shellcheck shell=bash
# The stages of every recipe. A recipe's run.sh sets what is its own, then sources this with its
# arguments; functions that it defines take the place of the ones here:
#
#   stage_download, stage_data   from the official files to data/<corpus>/{all,fold<k>/...}; here
#                                with local/archives.tsv, local/demo.py and local/data.py
#   recipe_options               adjusts variables after the options are read (subset, demo)
#   recipe_report                more figures, after stage report's own
#   recipe_stage NAME            adjusts variables before a stage
#   recipe_plan                  lists all runs, so that what is wrong is said at the start
#   recipe_help                  lines for --help about options of its own
#   stage_<name>                 any stage of its own, listed in stages
#
# Variables that a recipe sets: title, corpus, feats, model, augment, folds, table (what runs when
# nothing else is asked for), finetune (a second run that starts from the first's weights), pretrain
# (conf/<pretrain>.yaml, a run before it), valid (where a part of the corpus is there to choose the
# epoch), features and waves (stems of conf/, where there are several front ends); see egs/README.md.
#
# Stages that a recipe lists if it has such runs: pretrain (before train), prune (after it), compress
# (before infer).

: "${title:?}" "${corpus:?}" "${feats:?}" "${model:?}"

. ../common/cmd.sh

stage=download
: "${stop_stage:=}" "${table:=}" "${seeds:=}" "${folds:=1}" "${demo:=false}"
: "${train:=train}" "${augment:=none}" "${finetune:=}" "${pretrain:=}" "${valid:=false}"
: "${features:=features}" "${waves:=waves}"
missing=false
nj=$(env -u OMP_NUM_THREADS nproc) # which nproc would count instead of the cores
max_jobs_run=
threads=1
ngpu=0
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then ngpu=1; fi
device=auto
dtype=float32
compress=false
max_bad=0
domain=
dry_run=false
declare -F recipe_help >/dev/null || recipe_help() { :; }
declare -F recipe_options >/dev/null || recipe_options() { :; }
declare -F recipe_report >/dev/null || recipe_report() { :; }
declare -F recipe_stage >/dev/null || recipe_stage() { :; }
declare -F recipe_plan >/dev/null || recipe_plan() { plan_ all; }
_standard=(download data feats stats train infer score report pack) # their numbers stay
[[ -v stages ]] || stages=("${_standard[@]}")

help_message="$title

usage: ./run.sh [options] [-- --dotted.key value ...]

  --stage NAME       first stage, by name or number (default: download)
  --stop-stage NAME  last stage (default: pack; report with --table)
                     ${stages[*]}
  --table NAME       all rows of conf/tables/NAME.yaml: runs what is missing, renders the table
                     (default: ${table:-none})
  --model NAME       conf/model/NAME.yaml, here or in ../common (default: $model)
  --augment NAME     conf/augment/NAME.yaml, here or in ../common (default: $augment)
  --train NAME       conf/NAME.yaml, here or in ../common (default: $train)
  --features NAME    conf/NAME.yaml, the front end (default: $features); --waves likewise
  --finetune NAME    then train on by conf/NAME.yaml, in stage prune (default: ${finetune:-none})
  --pretrain NAME    before it by conf/NAME.yaml, in stage pretrain (default: ${pretrain:-none})
  --seeds \"0 1 2\"    repeats (default: the table's, or 0)
  --folds \"1 2\"      folds (default: $folds)
  --missing          only runs that neither results.csv nor exp/ has
  --valid            a fold of the training part chooses the epoch, not the last one$(
    if $valid; then echo " (default)"; fi)
  --demo             a tiny corpus in the official layout, all stages in minutes
  --db-root DIR      the corpus (default: ${db_root:-})
  --cmd COMMAND      where jobs run (default: $cmd; see ../common/cmd.sh)
  --nj N             jobs of the stages feats, compress and infer (default: $nj)
  --max-jobs-run N   jobs at a time (default: as many as the cores, or GPUs, allow)
  --threads N        threads of a training job (default: $threads)
  --ngpu N           GPUs of a training job, which share its batches (default: $ngpu); --device cpu
                     keeps off them
  --dtype TYPE       float32 or float16 dump; --compress writes compressed Kaldi matrices
  --max-bad N        go on past so many unreadable clips
  --domain NAME      stage report also prints accuracy by city, device, ... (utt2NAME)
  --dry-run          print what would be run
  --help             this text
$(recipe_help)
After --, any key of the configuration: ./run.sh --augment none -- --train.epochs 10
python -m espnet_like.bin.keys lists them."

_given=" "
for _word in "$@"; do
  if [[ $_word == -- ]]; then break; fi
  if [[ $_word == --* ]]; then _given+="${_word%%=*} "; fi
done
. ../../utils/parse_options.sh
overrides=("$@")

# given OPTION...: whether the command line has one of them.
given() {
  local option
  for option; do
    if [[ $_given == *" $option "* ]]; then return 0; fi
  done
  return 1
}

fail() {
  printf 'error: %s\n' "$1" >&2
  exit "${2:-2}"
}

# place STAGE: leaves the place of a stage, given by name or number, in $place_of. Where a recipe
# has train_first and train_second, train is the first of them.
place() {
  local i name=$1
  if [[ $1 =~ ^[0-9]+$ ]]; then name=${_standard[$1]-}; fi
  for i in "${!stages[@]}"; do
    if [[ $name == "${stages[i]}" || $name == train && ${stages[i]} == train_* ]]; then
      place_of=$i
      return
    fi
  done
  if [[ $name == "$1" ]]; then name=; fi
  fail "no stage $1${name:+ ($name)} here; stages are ${stages[*]}"
}

# do_ COMMAND...: run it, or print it with --dry-run.
do_() {
  if $dry_run; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# jobs_ OPTIONS... : a job array through $cmd.
jobs_() {
  local backend
  read -ra backend <<<"$cmd"
  if ! $dry_run && ! command -v "${backend[0]-}" >/dev/null; then
    fail "--cmd $cmd: no such command; utils/ has run.py"
  fi
  if [[ $max_jobs_run ]]; then backend+=(--max-jobs-run "$max_jobs_run"); fi
  do_ "${backend[@]}" "$@"
}

# plan_ STAGE: leaves how many runs there are for a stage in $planned, their list in $plans/STAGE.
plan_() {
  local options=(--stage "$1" --out "$plans/$1.jsonl" --data "data/$corpus" --dump "$dump")
  options+=(--waves "$raw" --corpus "$corpus" --folds "$folds" --features "$features")
  if [[ $norm ]]; then options+=(--norm "$norm"); fi
  if [[ $seeds ]]; then options+=(--seeds "$seeds"); fi
  if [[ $table ]]; then
    options+=(--table "$table")
  else
    options+=(--model "$model" --augment "$augment" --train "$train")
    if [[ $finetune ]]; then options+=(--finetune "$finetune"); fi
    if [[ $pretrain && $pretrain != none ]]; then options+=(--pretrain "$pretrain"); fi
  fi
  if $valid; then options+=(--valid); fi
  if $missing; then options+=(--missing "$results/results.csv"); fi
  if $dry_run; then
    do_ python -m espnet_like.bin.plan "${options[@]}" "${overrides[@]}"
    planned=N
  elif [[ $1 == all && ${_listed["${options[*]}"]-} ]]; then
    planned=${_listed["${options[*]}"]} # several stages ask, and nothing has changed
  else
    planned=$(python -m espnet_like.bin.plan "${options[@]}" "${_check[@]}" "${overrides[@]}")
    _listed["${options[*]}"]=$planned
  fi
}
declare -A _listed
_check=()

# dump_ CONFIG OUT LOG OPTIONS... : a dump of the whole corpus.
dump_() {
  local options=(--config "$1" --data "data/$corpus/all" --out "$2" "${@:4}")
  options+=(--num-jobs "$nj" --max-bad "$max_bad")
  jobs_ --num-threads 1 "JOB=1:$nj" "$logs/$3.JOB.log" \
    python -m espnet_like.bin.dump_feats "${options[@]}" --job JOB
  do_ python -m espnet_like.bin.dump_feats "${options[@]}" --merge
}

declare -F stage_download >/dev/null || stage_download() {
  if $demo; then
    do_ python local/demo.py --db-root "$db_root"
  else
    do_ python -m espnet_like.bin.download local/archives.tsv --db-root "$db_root"
  fi
}

declare -F stage_data >/dev/null || stage_data() {
  local options=(--db-root "$db_root" --out "data/$corpus")
  if $demo; then options+=(--demo); fi
  do_ python local/data.py "${options[@]}"
}

stage_feats() {
  if ! $dry_run && [[ ! -d data/$corpus/all ]]; then
    fail "stage feats needs data/$corpus/all: run --stage data" 3
  fi
  local options=(--dtype "$dtype")
  if $compress; then options+=(--compress); fi
  dump_ "conf/$features.yaml" "$dump" feats "${options[@]}"
  plan_ waves # the runs that change waveforms
  if [[ $planned == [1-9]* ]]; then dump_ "conf/$waves.yaml" "$raw" waves; fi
}

stage_stats() {
  local fold part=train
  if [[ $norm ]]; then
    do_ python -m espnet_like.bin.compute_stats --dump "$dump" --data "$norm" \
      --out "$dump/stats/norm.json"
    return
  fi
  if $valid; then part=train_valid; fi
  for fold in $folds; do
    do_ python -m espnet_like.bin.compute_stats --dump "$dump" \
      --data "data/$corpus/fold$fold/$part" --out "$dump/stats/fold$fold/$part.json"
  done
}

# train_ STAGE: the runs that a stage trains, in an array.
train_() {
  plan_ "$1"
  if [[ $planned == 0 ]]; then return; fi
  jobs_ --num-threads "$threads" --gpu "$ngpu" "JOB=1:$planned" "$logs/$1.JOB.log" \
    python -m espnet_like.bin.train --plan "$plans/$1.jsonl" --job JOB --device "$device" \
    --ngpu "$ngpu"
}

stage_pretrain() { train_ pretrain; } # on what stage train trains on, without the labels

stage_train() { train_ train; }

stage_prune() { train_ prune; } # what starts from the weights of stage train

# through_ STAGE: runs that take seconds each; as many jobs as $nj share them.
through_() {
  plan_ "$1"
  if [[ $planned == 0 ]]; then return; fi
  local jobs=$planned
  if [[ $jobs != N ]] && ((jobs > nj)); then jobs=$nj; fi
  jobs_ --num-threads "$threads" --gpu "$ngpu" "JOB=1:$jobs" "$logs/$1.JOB.log" \
    python -m "espnet_like.bin.$1" --plan "$plans/$1.jsonl" --job JOB --jobs "$jobs" \
    --device "$device"
}

stage_compress() { through_ compress; }

stage_infer() { through_ infer; }

stage_score() {
  plan_ all
  do_ python -m espnet_like.bin.score --plan "$plans/all.jsonl"
}

stage_report() {
  plan_ all
  do_ python -m espnet_like.bin.report --plan "$plans/all.jsonl" --table "$table" \
    --corpus "$title" --out "$results" --figures "exp/figures/$name" --domain "$domain"
  recipe_report
}

stage_pack() {
  plan_ all
  do_ python -m espnet_like.bin.pack --plan "$plans/all.jsonl"
}

if [[ ${overrides[0]---} != --* ]]; then fail "${overrides[0]}: not an option; see --help"; fi
for _word in "${overrides[@]}"; do
  _word=${_word%%=*}
  if [[ $_word == --* && $_word != *.* && ! $_word =~ ^--(seed|normalize|input_shape|store)$ ]]; then
    fail "$_word stands after --, where keys of the configuration are: put options before it"
  fi
done
for _word in nj threads ${max_jobs_run:+max_jobs_run}; do
  if [[ ! ${!_word} =~ ^[1-9][0-9]*$ ]]; then
    fail "--${_word//_/-} ${!_word}: a number from 1"
  fi
done
if [[ $table ]] && given --model --augment --train --finetune --pretrain; then
  if given --table; then
    fail "--table $table says which models, augmentations and training: leave out the others"
  fi
  table= # the recipe's own, where something else was asked for
fi
if [[ $finetune && " ${stages[*]} " != *" prune "* ]]; then
  fail "--finetune $finetune: this recipe has no stage prune"
fi
if [[ $pretrain && " ${stages[*]} " != *" pretrain "* ]]; then
  fail "--pretrain $pretrain: this recipe has no stage pretrain"
fi
results=.
norm= # data directory of the statistics of all runs, where it is not each one's training part
if $demo; then
  corpus=demo db_root=$db_root/demo results=exp/demo
  if [[ $train == train ]]; then train=train_demo; fi
fi
recipe_options
if ! $dry_run; then . ../common/path.sh; fi
dump=dump/$feats/$corpus raw=dump/${waves/#waves/raw}/$corpus
name=${table:-${model}_${augment}}_$corpus
plans=exp/plans/$name
logs=exp/log/$name

place "$stage"
first=$place_of
place "${stop_stage:-$([[ $table ]] && echo report || echo pack)}"
last=$place_of
((first <= last)) || fail "--stage $stage comes after --stop-stage $stop_stage"
# A wrong name or key, or checkpoint to start from, is said now, and not after hours of features.
if ! $dry_run && [[ " ${stages[*]:first:last-first+1} " == *" "*" train"* ]]; then
  _check=(--check-start)
  recipe_plan
  _check=()
fi
for ((i = first; i <= last; i++)); do
  printf '== stage %s\n' "${stages[i]}" >&2
  recipe_stage "${stages[i]}"
  "stage_${stages[i]}"
done
