#!/usr/bin/env bash
# Makes the environment of the recipes and tests. See --help.
set -euo pipefail

active=false
dev=false
cpu=false
cuda=false
python=
help_message="usage: tools/install.sh [--dev] [--cpu | --cuda] [--python PYTHON | --active]

Makes a virtual environment in tools/venv with all that the recipes need. Where that is done
already, it does nothing, at once, and needs no network. After a failed or interrupted call, the
next one goes on.

  --dev            also what the tests need
  --cpu, --cuda    the build of torch (default: the one that is there, else CUDA where nvidia-smi
                   lists a GPU, else CPU)
  --python PYTHON  the Python, 3.10 or newer, to make it with (default: the first found)
  --active         install into the active environment instead, the one of \`python3\`, and keep
                   its torch if it is new enough; the same: ESPNET_LIKE_ENV=active

torch is pinned in tools/requirements.txt. tools/check_install.py says what is wrong, if anything."
[[ ${ESPNET_LIKE_ENV-} != active ]] || active=true
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../utils/parse_options.sh"

ROOT=$(dirname "$here")
PIP_LOG=$ROOT/tools/.install.log
HELD=$ROOT/tools/.install.held
cd "$ROOT"

main() {
  if (($#)); then fail "'$1': takes options only; see --help"; fi
  if $cpu && $cuda; then fail "--cpu or --cuda, not both"; fi
  if $active && [[ -n $python ]]; then fail "--python or --active, not both"; fi
  # Settings of the caller's shell that would lead pip or Python elsewhere.
  unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIREMENT PIP_CONSTRAINT
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

  local prefix=$ROOT/tools/venv
  if $active; then
    prefix=$(python3 -c 'import sys; print(sys.prefix)') || fail "--active: no python3 on PATH"
  else
    unset PIP_USER
  fi
  STAMP=$prefix/espnet_like.stamp
  if done_before "$prefix"; then return; fi

  exec 9>tools/.install.lock
  if ! flock --nonblock 9; then
    say "another tools/install.sh is at work; waiting for it"
    flock 9
  fi
  if done_before "$prefix"; then return; fi
  : >"$PIP_LOG"
  if $active; then
    PY=$(command -v python3)
    "$PY" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
      fail "--active: $("$PY" -V) ($PY) is older than 3.10"
  else
    PY=$prefix/bin/python
    make_venv "$prefix"
  fi
  local before
  before=$(recorded build)
  # A call without --dev that has work to do keeps what an earlier one with it put there.
  if [[ $(recorded dev) == true ]]; then dev=true; fi
  rm -f "$STAMP"
  if ! install_all "$before"; then
    # What an interrupted call left can look complete to pip. Only our own folder is made anew.
    if $active || $FRESH; then fail "the environment is not usable, see above"; fi
    say "starting over with a new environment"
    rm -rf "$prefix"
    make_venv "$prefix"
    install_all "$before" || fail "the environment is not usable, see above"
  fi
  say "done: $prefix"
}

# The stamp is written last, so an environment that has one is whole. Its lines: what it was made
# from, the build of torch, and whether it holds what the tests need.
fingerprint() {
  { echo "$ROOT" && "$1/bin/python3" -V && cat setup.py tools/requirements.txt; } | sha256sum
}

recorded() {
  if [[ -f $STAMP ]]; then sed -n "s/^$1=//p" "$STAMP"; fi
}

done_before() {
  [[ -f $STAMP ]] || return 1
  [[ $(recorded made_from) == "$(fingerprint "$1")" ]] || return 1
  if $cpu && [[ $(recorded build) != cpu ]]; then return 1; fi
  if $cuda && [[ $(recorded build) != cuda ]]; then return 1; fi
  if $dev && [[ $(recorded dev) != true ]]; then return 1; fi
}

make_venv() {
  FRESH=false
  if "$1/bin/python" -m pip --version >/dev/null 2>&1 && [[ -z $python ]]; then return; fi
  find_python
  say "$("$BASE" -V) ($BASE) -> $1"
  "$BASE" -m venv --clear "$1" >>"$PIP_LOG" 2>&1 || fail_with_log "cannot make $1"
  FRESH=true
}

# find_python: leaves in BASE a Python that is new enough and can make a virtual environment.
find_python() {
  local name path bare=
  for name in ${python:-python3 python3.13 python3.12 python3.11 python3.10 python3.14}; do
    path=$(command -v "$name") || continue
    "$path" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
    if "$path" -c 'import ensurepip, venv' 2>/dev/null; then
      BASE=$path
      return
    fi
    bare=${bare:-$path}
  done
  if [[ -z $bare ]]; then
    fail "${python:-python3}: no Python 3.10 or newer; install one, or name it with --python"
  fi
  # Debian packs the part of Python that makes virtual environments on its own.
  local package
  package=$("$bare" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "$bare cannot make a virtual environment; type: sudo apt-get install $package"
  fi
  say "$bare cannot make a virtual environment: installing the Debian package $package"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get install -y "$package" || { apt-get update && apt-get install -y "$package"; }; } \
    >>"$PIP_LOG" 2>&1 || fail_with_log "apt-get install $package failed"
  BASE=$bare
}

# install_all BUILD: BUILD is the build of torch that was there, or empty. Fails when the result
# does not pass the check.
install_all() {
  local check=(--mend) package=. findings
  if $dev; then check+=(--dev) package='.[dev]'; fi
  pip_install setuptools wheel || fail_with_log "cannot install setuptools"
  if keeps_torch; then
    say "keeping torch $(version_of torch)"
  else
    install_torch "$1"
  fi
  say "the libraries of setup.py$(if $dev; then echo ', and what the tests need'; fi)"
  # What was chosen above is held fast, or another package could bring its own torch.
  printf '%s\n' "torch==$(version_of torch)" "torchaudio==$(version_of torchaudio)" >"$HELD"
  # torch needs setuptools, so it is there to build with; an isolated build would fetch its own.
  pip_install --no-build-isolation -c "$HELD" -e "$package" ||
    fail_with_log "cannot install the libraries"
  if ! findings=$("$PY" tools/check_install.py "${check[@]}"); then
    grep -v '^ok' <<<"$findings" >&2
    return 1
  fi
  sed -n '/compiled part/s/^note */install.sh: /p' <<<"$findings"
  {
    echo "made_from=$(fingerprint "${STAMP%/*}")"
    echo "build=$(torch_build)"
    echo "dev=$dev"
  } >tools/.install.stamp
  mv tools/.install.stamp "$STAMP" || say "cannot write $STAMP: the next call will do all this again"
}

wanted_build() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    echo cuda
  else
    echo cpu
  fi
}

# The build of the torch that is there: cpu, cuda, or nothing.
torch_build() {
  "$PY" -c 'import torch; print("cuda" if torch.version.cuda or torch.version.hip else "cpu")' \
    2>/dev/null || true
}

# In an environment of the user's own, torch is theirs, if it is new enough and not another asked.
keeps_torch() {
  $active && ! $cpu && ! $cuda && "$PY" -c '
import sys, torch, torchaudio
sys.exit([int(n) for n in torch.__version__.split(".")[:2]] < [2, 8])' 2>/dev/null
}

# install_torch BUILD: torch comes first, by its exact build. Asked for by name, another package
# would bring gigabytes of CUDA libraries to a machine without a GPU.
install_torch() {
  local build=${1:-$(wanted_build)} torch
  if $cpu; then build=cpu; elif $cuda; then build=cuda; fi
  torch=$(sed -n 's/^torch==//p' tools/requirements.txt)
  if [[ $build == cpu ]]; then
    say "torch $torch, CPU build"
    pip_install "torch==$torch+cpu" ||
      pip_install "torch==$torch+cpu" --extra-index-url https://download.pytorch.org/whl/cpu ||
      fail_with_log "cannot install torch $torch+cpu; --cuda takes the large build instead, which" \
        "works on a CPU too"
  else
    say "torch $torch, CUDA build (gigabytes; --cpu for the small one)"
    # Three =: this version and no local one, or a CPU build at hand would count as newer.
    pip_install "torch===$torch" || fail_with_log "cannot install torch $torch"
  fi
  # Without its dependencies it works beside any torch; check_install.py sees to its compiled part.
  pip_install --no-deps "$(grep '^torchaudio==' tools/requirements.txt)" ||
    fail_with_log "cannot install torchaudio"
}

pip_install() {
  "$PY" -m pip install "$@" >>"$PIP_LOG" 2>&1
}

version_of() {
  "$PY" -c 'import sys, importlib.metadata as m; print(m.version(sys.argv[1]))' "$1"
}

say() {
  echo "install.sh: $*"
}

fail() {
  echo "install.sh: error: $*" >&2
  exit 1
}

fail_with_log() {
  tail -n 15 "$PIP_LOG" >&2
  fail "$* (all of it: $PIP_LOG)"
}

main "$@"
