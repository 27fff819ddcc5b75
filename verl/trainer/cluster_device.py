"""Which device a run uses, asked where its workers will run.

Guarantees: a GPU anywhere in the Ray cluster counts, whatever the driver's node has; "cuda" is
returned only after a worker has computed on a GPU; "auto" never falls back to the CPU because a
GPU that is there cannot be used.
"""

from __future__ import annotations

import logging

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl.trainer.cluster import live_nodes
from verl.utils.device import DeviceError, probe_cuda

_FIRST_ANSWER_TIMEOUT_S = 60.0
_OTHER_ANSWERS_TIMEOUT_S = 20.0

logger = logging.getLogger(__name__)


def settle_device(name: str) -> str:
    """ "cpu" or "cuda" for ``trainer.device``; Ray must be up.

    Raises:
        DeviceError: if "cuda" is asked for and the cluster has no GPU, or if a node's torch cannot
            use its GPU; with torch's and the driver's versions.
    """
    if name == "cpu":
        return name
    nodes = live_nodes()
    with_gpu = [node for node in nodes if _gpus(node) >= 1]
    if with_gpu:
        _probe(with_gpu)
        return "cuda"
    if name == "cuda":
        hosts = ", ".join(str(node["NodeManagerHostname"]) for node in nodes)
        raise DeviceError(
            f"trainer.device=cuda, but Ray finds no GPU on {hosts}: see what `nvidia-smi` says "
            "there, and whether CUDA_VISIBLE_DEVICES hides them; trainer.device=cpu trains without"
        )
    logger.info("no GPU in the Ray cluster: training on the CPU")
    return "cpu"


def _gpus(node: dict[str, object]) -> float:
    resources = node["Resources"]
    assert isinstance(resources, dict)
    return float(resources.get("GPU", 0))


def _probe(nodes: list[dict[str, object]]) -> None:
    """One GPU of each node. A node whose GPUs are all taken is left to the placement of workers,
    if another one answers."""
    probe = ray.remote(probe_cuda)
    references = {
        probe.options(
            num_cpus=0,
            num_gpus=1,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(): str(node["NodeManagerHostname"])
        for node in nodes
    }
    pending = list(references)
    done, pending = ray.wait(pending, num_returns=1, timeout=_FIRST_ANSWER_TIMEOUT_S)
    if pending:
        more, pending = ray.wait(
            pending,
            num_returns=len(pending),
            timeout=_OTHER_ANSWERS_TIMEOUT_S if done else 0,
        )
        done += more
    for reference in pending:
        ray.cancel(reference, force=True)
    if not done:
        raise DeviceError(
            f"no GPU of {', '.join(references.values())} became free within "
            f"{_FIRST_ANSWER_TIMEOUT_S:.0f} s: other Ray jobs hold them (`ray status`)"
        )
    for reference in done:
        _require_success(references[reference], reference)


def _require_success(host: str, reference: ray.ObjectRef) -> None:
    try:
        failure: str | None = ray.get(reference)
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise DeviceError(f"the GPU of {host} could not be tried: {reason}") from error
    if failure is not None:
        raise DeviceError(
            f"torch cannot use the GPU of {host}: {failure}; update the "
            "driver, or install the packages of scripts/locks/cuda.lock there; trainer.device=cpu "
            "trains without"
        )
