# Sourced by train.sh, test.sh and scripts: which recipe of configs/recipe is meant, and which
# packages it needs; and how Python runs there.

# Python keeps what it has compiled of a module, unless it is told not to; then each process would
# compile the libraries anew, for 4 to 6 s. It is kept in the packages' folder and in __pycache__,
# which git ignores. Commands that are not started by these scripts take what these have kept.
unset PYTHONDONTWRITEBYTECODE

has_gpu() { nvidia-smi -L >/dev/null 2>&1; }

# An empty CUDA_VISIBLE_DEVICES hides all GPUs from a run.
may_use_gpu() { [[ -n "${CUDA_VISIBLE_DEVICES-all}" ]] && has_gpu; }

asks_for_help() { # arguments …
  [[ " $* " == *" --help "* || " $* " == *" -h "* ]]
}

# Sets RECIPE unless it is set, or the overrides ("$@") name one; says which.
choose_recipe() { # verb, overrides …
  local verb=$1
  shift
  if [[ -n "${RECIPE:-}" || " $* " == *" recipe="* ]]; then return; fi
  if may_use_gpu; then
    RECIPE=paper_qwen
    echo "GPU found: $verb recipe paper_qwen (RECIPE=quickstart takes the small one)"
  else
    RECIPE=quickstart
    echo "no GPU found: $verb recipe quickstart, a tiny router on the embedded world (RECIPE=… chooses another)"
  fi
}

# Sets and exports VERL_LOCK, unless it is set, and VENV. A run on the CPU takes the CPU packages
# also where there is a GPU: vLLM's CUDA build would run on it whatever trainer.device says.
choose_packages() { # overrides …
  local device="" argument recipe=${RECIPE:-}
  for argument in "$@"; do
    case "$argument" in
      recipe=*) recipe=${argument#recipe=} ;;
      trainer.device=* | ++trainer.device=*) device=${argument##*=} ;;
    esac
  done
  if [[ -z "$device" && -n "$recipe" ]]; then device=$(recipe_device "$recipe"); fi
  if [[ -z "${VERL_LOCK:-}" ]]; then
    if may_use_gpu && [[ "$device" != cpu ]]; then VERL_LOCK=cuda; else VERL_LOCK=cpu; fi
  fi
  export VERL_LOCK
  VENV=$(packages_folder "$VERL_LOCK")
}

# trainer.device of a recipe's file, or of the one it builds on.
recipe_device() { # recipe
  local file=configs/recipe/$1.yaml device base
  [[ -f "$file" ]] || return 0
  device=$(sed -n 's/^  device: *//p' "$file")
  base=$(sed -n '/^defaults:/,/^$/{/_self_/d; s/^  - \([A-Za-z0-9_]*\)$/\1/p}' "$file")
  if [[ -z "$device" && -n "$base" ]]; then device=$(recipe_device "${base%%$'\n'*}"); fi
  echo "$device"
}

# .venv, but .venv-cpu for the CPU packages of a machine that has, or prepares for, GPUs.
packages_folder() { # lock
  if [[ $1 == cpu ]] && { has_gpu || [[ "$(cat .venv/installed 2>/dev/null)" == cuda\ * ]]; }; then
    echo .venv-cpu
  else
    echo .venv
  fi
}
