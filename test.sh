#!/usr/bin/env bash
# Scores a trained router: generates what is missing, scores, reports.
#
#   bash test.sh                                   the recipe's newest checkpoint, or its best, on its test files
#   MODEL_PATH=folder bash test.sh                 another checkpoint, or a model of the hub
#   DATASETS=nq,hotpotqa bash test.sh              benchmarks that qa_test_gen.py has prepared
#   bash test.sh evaluation.n_samples=4 actor_rollout_ref.rollout.val.temperature=1.0
#                                                  overrides as for train.sh
#
# Interrupted, or stopped because LLMs could not be reached, it goes on where it was. Results lie in <the run's folder>/eval/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source scripts/recipe.sh
if asks_for_help "$@"; then exec sed -n '2,/^set/s/^# \{0,1\}//p' test.sh; fi
export PYTHONUTF8=1  # text is UTF-8 whatever the locale says
choose_recipe scoring "$@"
choose_packages "$@"
bash scripts/setup.sh
python=$PWD/$VENV/bin/python script=$PWD/data_process/qa_test_gen.py
cd "${ROUTER_R1_WORKING_FOLDER:-.}"  # where `router-r1` was called, if it was

overrides=(${RECIPE:+"recipe=$RECIPE"})
if [[ -n "${MODEL_PATH:-}" ]]; then
  export MODEL_PATH  # as a variable, since a path may hold what the overrides' grammar cannot
  overrides+=('evaluation.model_path=${oc.env:MODEL_PATH}')
fi
if [[ -n "${DATASETS:-}" ]]; then
  files=()
  for dataset in ${DATASETS//,/ }; do files+=("data/nq_search/test_${dataset}_qwen.parquet"); done
  for file in "${files[@]}"; do
    if [[ ! -f $file ]]; then
      echo "no $file; prepare it: $python $script --data_sources $DATASETS" >&2
      exit 2
    fi
  done
  list=$(IFS=,; echo "${files[*]}")
  overrides+=("evaluation.files=[$list]")
fi
"$python" -m verl.trainer.main_generation "${overrides[@]}" "$@"
exec "$python" -m verl.trainer.main_eval "${overrides[@]}" "$@"
