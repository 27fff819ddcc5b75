#!/usr/bin/env bash
# What does weighing cost buy? Trains one router per cost_coe, scores each, compares them.
#
#   bash scripts/cost_sweep.sh                             0, 0.3, 0.6 and 0.9 on the recipe
#   COST_COES="0 0.5" bash scripts/cost_sweep.sh           other values
#   SWEEP=seed1 bash scripts/cost_sweep.sh trainer.seed=1  another name; overrides as for train.sh
#   ONE_ROUTER=1 bash scripts/cost_sweep.sh recipe=quickstart_tradeoff
#                                                          one router, told each value
#   bash scripts/cost_sweep.sh … -- --train_files … --test_files … --pool …
#                                                          after --: options of the comparison
#
# Routers lie in outputs/<sweep>_<cost_coe>/ (the one router in outputs/<sweep>_router/), table and plot
# in outputs/<sweep>/. One that is trained already is not trained again, and what test.sh has answered
# is not asked again.
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

train() {  # name, overrides
  if [[ -f outputs/$1/summary.json ]]; then
    echo "outputs/$1 is trained already (remove it to train anew)"
  else
    bash train.sh "${overrides[@]}" "${@:2}" trainer.experiment_name="$1"
  fi
}

told=state_cost_coe=true
if [[ -n "${ONE_ROUTER:-}" ]]; then train "${sweep}_router" $told; fi
for cost_coe in ${COST_COES:-0 0.3 0.6 0.9}; do
  if [[ -n "${ONE_ROUTER:-}" ]]; then
    name=${sweep}_router results=outputs/${sweep}_router/eval_$cost_coe
    bash test.sh "${overrides[@]}" $told cost_coe="$cost_coe" trainer.experiment_name="$name" \
      evaluation.folder="$results"
  else
    name=${sweep}_$cost_coe results=outputs/${sweep}_$cost_coe/eval
    train "$name" cost_coe="$cost_coe"
    bash test.sh "${overrides[@]}" cost_coe="$cost_coe" trainer.experiment_name="$name"
  fi
  comparison+=(--sweep "$cost_coe=$results")
done
choose_packages "${overrides[@]}"
exec "$VENV/bin/python" -m router_r1.evaluation.compare "${comparison[@]}" --output "outputs/$sweep"
