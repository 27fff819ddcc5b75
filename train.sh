#!/usr/bin/env bash
# Trains a router: installs what is missing, then runs a recipe of configs/recipe.
#
#   bash train.sh                                  quickstart without GPU, paper_qwen with
#   RECIPE=paper_llama bash train.sh               another recipe
#   bash train.sh cost_coe=0.9 trainer.seed=1      anything after the name is a Hydra override
#   bash train.sh --check [--gpus 4x80] …          what the run needs and what there is; trains not
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/recipe.sh
if asks_for_help "$@"; then exec sed -n '2,/^set/s/^# \{0,1\}//p' train.sh; fi

module=main_ppo
verb=training
arguments=()
for argument in "$@"; do
  if [[ $argument == --check ]]; then
    module=main_check
    verb=checking
  else
    arguments+=("$argument")
  fi
done
set -- ${arguments[@]+"${arguments[@]}"}
if [[ $module == main_ppo && " $*" == *" --gpus"* ]]; then
  echo "--gpus describes a machine to --check: bash train.sh --check $*" >&2
  exit 2
fi

choose_recipe "$verb" "$@"
choose_packages "$@"
export PYTHONUTF8=1  # text is UTF-8 whatever the locale says
SECONDS=0
bash scripts/setup.sh
export ROUTER_R1_SETUP_SECONDS=$SECONDS
python=$PWD/$VENV/bin/python
cd "${ROUTER_R1_WORKING_FOLDER:-.}"  # where `router-r1` was called, if it was
exec "$python" -m "verl.trainer.$module" ${RECIPE:+recipe=$RECIPE} "$@"
