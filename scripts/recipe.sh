# Sourced by train.sh and test.sh: chooses a recipe of configs/recipe and says which.
# Sets RECIPE unless it is set, or the overrides ("$@") name one.

choose_recipe() { # verb, overrides …
  local verb=$1
  shift
  if [[ -n "${RECIPE:-}" || " $* " == *" recipe="* ]]; then return; fi
  if nvidia-smi -L >/dev/null 2>&1; then
    RECIPE=paper_qwen
    echo "GPU found: $verb recipe paper_qwen (RECIPE=quickstart takes the small one)"
  else
    RECIPE=quickstart
    echo "no GPU found: $verb recipe quickstart, a tiny router on the embedded world (RECIPE=… chooses another)"
  fi
}
