#!/usr/bin/env bash
# Trains a router: installs what is missing, then runs a recipe of configs/recipe.
#
#   bash train.sh                                  quickstart without GPU, paper_qwen with
#   RECIPE=paper_llama bash train.sh               another recipe
#   bash train.sh cost_coe=0.9 trainer.seed=1      anything after the name is a Hydra override
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export PYTHONUTF8=1  # text is UTF-8 whatever the locale says
SECONDS=0
bash scripts/setup.sh
export ROUTER_R1_SETUP_SECONDS=$SECONDS

source scripts/recipe.sh
choose_recipe training "$@"
exec .venv/bin/python -m verl.trainer.main_ppo ${RECIPE:+recipe=$RECIPE} "$@"
