# shellcheck shell=bash
# Command-line options of a shell script, Kaldi's way, but nothing that matches nothing is ignored.
#
# Source it after the defaults. Every lower-case variable that is set at that moment is an option:
#
#   stage=0          # --stage 3, --stage=3
#   db_root=         # --db-root /corpora/ESC-50
#   demo=false       # --demo, --demo true, --demo=false: a variable that holds true or false
#   help_message="usage: $0 [--stage N] [--db-root DIR] [--demo]"
#   . utils/parse_options.sh
#
# Options end at the first other argument or at --; what remains is in "$@". --help prints
# $help_message and exits 0. An option that is not there, or a value that is missing, is exit
# code 2. Names with a capital letter or a leading underscore, exported proxy settings and
# help_message are no options.

# _po_is_option NAME: is there such a variable?
_po_is_option() {
  [[ $1 =~ ^[a-z][a-z0-9_]*$ && $1 != help_message && $1 != *_proxy && -v $1 ]]
}

# _po_distance A B: leaves the edit distance of two words in _po_edits.
_po_distance() {
  local a=$1 b=$2 i j cost best above=() row=()
  for ((j = 0; j <= ${#b}; j++)); do above[j]=$j; done
  for ((i = 1; i <= ${#a}; i++)); do
    row=("$i")
    for ((j = 1; j <= ${#b}; j++)); do
      cost=1
      if [[ ${a:i-1:1} == "${b:j-1:1}" ]]; then cost=0; fi
      best=$((above[j - 1] + cost))
      if ((above[j] + 1 < best)); then best=$((above[j] + 1)); fi
      if ((row[j - 1] + 1 < best)); then best=$((row[j - 1] + 1)); fi
      row[j]=$best
    done
    above=("${row[@]}")
  done
  _po_edits=${above[${#b}]}
}

# _po_nearest NAME: leaves the options that NAME may have meant in _po_names, " or " between them.
_po_nearest() {
  local name best=$((${#1} / 3 + 1)) found=()
  while IFS= read -r name; do
    _po_is_option "$name" || continue
    _po_distance "$1" "$name"
    if [[ ${#1} -ge 3 && ($name == *"$1"* || $1 == *"$name"*) && $_po_edits -gt $best ]]; then
      _po_edits=$best # one is a part of the other
    fi
    if ((_po_edits < best)); then
      best=$_po_edits found=()
    fi
    if ((_po_edits == best)); then found+=("--${name//_/-}"); fi
  done < <(compgen -v)
  _po_names=
  if ((${#found[@]})); then
    printf -v _po_names '%s or ' "${found[@]}"
    _po_names=${_po_names% or }
  fi
}

# _po_fail TEXT: says it in one line and ends the script.
_po_fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --help | -h)
      printf '%s\n' "${help_message:-usage: $0 [--option value]...}"
      exit 0
      ;;
    --)
      shift
      break
      ;;
    -?*) ;;
    *) break ;;
  esac
  _po_option=${1%%=*}
  _po_name=${_po_option#--}
  _po_name=${_po_name//-/_}
  if [[ $_po_option != --* ]] || ! _po_is_option "$_po_name"; then
    _po_nearest "${_po_name#_}"
    _po_fail "unknown option $_po_option${_po_names:+ (is it $_po_names?)}; see $0 --help"
  fi
  _po_boolean=false
  if [[ ${!_po_name} == true || ${!_po_name} == false ]]; then _po_boolean=true; fi
  if [[ $1 == *=* ]]; then
    _po_value=${1#*=}
    shift
  elif $_po_boolean && [[ ${2-} != true && ${2-} != false ]]; then
    _po_value=true
    shift
  elif (($# < 2)); then
    _po_fail "$_po_option needs a value; see $0 --help"
  elif [[ $2 == --* && $2 != *[[:space:]]* ]]; then
    _po_fail "$_po_option needs a value, not the option $2 (if that is the value: $_po_option=$2)"
  else
    _po_value=$2
    shift 2
  fi
  if $_po_boolean && [[ $_po_value != true && $_po_value != false ]]; then
    _po_fail "$_po_option is true or false, not '$_po_value'"
  fi
  printf -v "$_po_name" '%s' "$_po_value"
done
unset -v _po_option _po_name _po_boolean _po_value _po_edits _po_names
unset -f _po_is_option _po_distance _po_nearest _po_fail
