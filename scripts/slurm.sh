#!/usr/bin/env bash
#SBATCH --job-name=router-r1
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --output=slurm-%j.log
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#
# Trains over a Slurm allocation: a Ray head on the first node, a Ray worker on each other one, then
# train.sh on the head with the allocation's nodes and GPUs.
#
#   sbatch scripts/slurm.sh api_base=https://…                     2 nodes of 8 GPUs
#   sbatch --nodes=4 --gpus-per-node=4 scripts/slurm.sh cost_coe=0.9
#                                                 Slurm's options first, then overrides as for train.sh
#
# Before the job's time is up, and when it is preempted, the run saves and ends with exit code 75; the
# same command, or the requeued job, goes on from there.
#
#   ROUTER_R1_RAY_PORT=6379     the head's port
#   ROUTER_R1_JOIN_TIMEOUT=300  seconds that all nodes have to join
#
# Submit from the project's folder, which all nodes must see at the same path. Packages are installed
# before (VERL_LOCK=cuda bash scripts/setup.sh works on a login node, too).
set -euo pipefail

fail() {
  echo "slurm.sh: $*" >&2
  exit 1
}

[[ -n "${SLURM_JOB_ID:-}" ]] || fail "no Slurm allocation; start it with: sbatch scripts/slurm.sh …"
# sbatch runs a copy of this file, so its own place says nothing.
cd "${SLURM_SUBMIT_DIR:?}"
[[ -f scripts/setup.sh ]] || fail "$PWD is not the project's folder; submit from there"
source scripts/recipe.sh

# The number in "8", "h100:8" or "h100:4,a100:4".
count_gpus() {
  local total=0 part
  for part in ${1//,/ }; do total=$((total + ${part##*:})); done
  echo "$total"
}

nodes=$SLURM_JOB_NUM_NODES
gpus=$(count_gpus "${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-0}}")
if [[ $gpus == 0 ]]; then ranks=${SLURM_NTASKS_PER_NODE:-1}; else ranks=$gpus; fi
overrides=(trainer.nnodes="$nodes" trainer.n_gpus_per_node="$ranks" "$@")
choose_packages "${overrides[@]}"
# On this node alone, before the others start from the same folder.
bash scripts/setup.sh

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
[[ ${#hosts[@]} == "$nodes" ]] || fail "the allocation has $nodes nodes, scontrol names ${#hosts[@]}"
port=${ROUTER_R1_RAY_PORT:-6379}
# The first IPv4 address of the head that is not its loopback.
address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${hosts[0]}" \
  bash -c 'hostname --ip-address; hostname --all-ip-addresses' |
  tr -s ' ' '\n' | awk '/\./ && !/^127\./ && !found { found = $0 } END { print found }')
[[ -n "$address" ]] || fail "${hosts[0]} has no address that other nodes can reach"

# Who reaches an open Ray port may run programs: the nodes of this job share a token.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')}
# Engines have no GPU in Ray's books and choose theirs themselves.
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0

steps=()
stop_ray() {
  trap - EXIT INT TERM
  # Told to end, `ray start --block` ends all that it has started.
  ((${#steps[@]} == 0)) || kill "${steps[@]}" 2>/dev/null || true
  wait
}
trap stop_ray EXIT
trap 'exit 143' INT TERM

start_ray() { # host, options of ray start …
  local host=$1
  shift
  # --overlap: Ray and what it starts use what this script's own step holds.
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$host" "$PWD/$VENV/bin/ray" start --block \
    --disable-usage-stats --num-cpus="${SLURM_CPUS_ON_NODE:-$ranks}" --num-gpus="$gpus" "$@" &
  steps+=($!)
}

# A folder of the job's own: /tmp/ray may belong to another user of the node.
start_ray "${hosts[0]}" --head --node-ip-address="$address" --port="$port" \
  --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false
for host in "${hosts[@]:1}"; do start_ray "$host" --address="$address:$port"; done

timeout_s=${ROUTER_R1_JOIN_TIMEOUT:-300}
"$VENV/bin/python" - "$address" "$port" "$nodes" "$timeout_s" <<'PYTHON' || fail "see the lines above"
"""Waits until all nodes have joined."""
import logging, socket, sys, time

address, port, wanted, timeout_s = sys.argv[1], *map(int, sys.argv[2:])
deadline = time.monotonic() + timeout_s
while time.monotonic() < deadline:
    try:
        socket.create_connection((address, port), 5).close()
        break
    except OSError:
        time.sleep(1)
else:
    sys.exit(f"the Ray head at {address}:{port} did not start within {timeout_s} s")

import ray

ray.init(f"{address}:{port}", logging_level=logging.ERROR, log_to_driver=False)
joined = []
while len(joined) < wanted and time.monotonic() < deadline:
    time.sleep(1)
    joined = [node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]
if len(joined) < wanted:
    sys.exit(f"{len(joined)} of {wanted} nodes joined within {timeout_s} s: {', '.join(joined)}")
PYTHON

export RAY_ADDRESS=$address:$port
bash train.sh "${overrides[@]}" &
training=$!
# Slurm tells this shell alone. Ray stays up until training has saved.
trap 'kill -USR1 "$training" 2>/dev/null || true' USR1 TERM INT
while true; do
  code=0
  wait "$training" || code=$?
  kill -0 "$training" 2>/dev/null || break  # else a signal has ended the waiting
done
exit "$code"
