#!/usr/bin/env bash
# What does weighing cost buy? Trains one router per cost_coe, scores each, compares them.
#
#   bash scripts/cost_sweep.sh                             0, 0.3, 0.6 and 0.9 on the recipe
#   COST_COES="0 0.5" bash scripts/cost_sweep.sh           other values
#   SWEEP=seed1 bash scripts/cost_sweep.sh trainer.seed=1  another name; overrides as for train.sh
#   bash scripts/cost_sweep.sh … -- --train_files … --test_files … --pool …
#                                                          after --: options of the comparison
#
# Routers lie in outputs/<sweep>_<cost_coe>/, table and plot in outputs/<sweep>/. One that is trained
# already is not trained again, and what test.sh has answered is not asked again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

source scripts/recipe.sh
sweep=${SWEEP:-sweep}
overrides=()
while (($#)) && [[ $1 != -- ]]; do
  overrides+=("$1")
  shift
done
comparison=("${@:2}")

for cost_coe in ${COST_COES:-0 0.3 0.6 0.9}; do
  name=${sweep}_$cost_coe
  if [[ -f outputs/$name/summary.json ]]; then
    echo "outputs/$name is trained already (remove it to train anew)"
  else
    bash train.sh "${overrides[@]}" cost_coe="$cost_coe" trainer.experiment_name="$name"
  fi
  bash test.sh "${overrides[@]}" trainer.experiment_name="$name"
  comparison+=(--sweep "$cost_coe=outputs/$name/eval")
done
choose_packages "${overrides[@]}"
exec "$VENV/bin/python" -m router_r1.evaluation.compare "${comparison[@]}" --output "outputs/$sweep"
