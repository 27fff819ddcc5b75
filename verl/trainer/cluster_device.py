"""Which device a run uses, asked where its workers will run.

Guarantees: a GPU anywhere in the Ray cluster counts, whatever the driver's node has; "cuda" is
returned only after a worker has computed on a GPU; "auto" never falls back to the CPU because a
GPU that is there cannot be used.
"""

from __future__ import annotations

import logging
from typing import Any

import ray
from ray.exceptions import RayError

from verl.trainer.cluster import ask_node, last_line, live_nodes
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
    with_gpu = [node for node in nodes if node["Resources"].get("GPU", 0) >= 1]
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


def _probe(nodes: list[dict[str, Any]]) -> None:
    """One GPU of each node. A node whose GPUs are all taken is left to the placement of workers,
    if another one answers."""
    hosts = {
        ask_node(probe_cuda, node, num_gpus=1, max_retries=0): str(node["NodeManagerHostname"])
        for node in nodes
    }
    done, pending = ray.wait(list(hosts), num_returns=1, timeout=_FIRST_ANSWER_TIMEOUT_S)
    if pending:
        wait_s = _OTHER_ANSWERS_TIMEOUT_S if done else 0
        more, pending = ray.wait(pending, num_returns=len(pending), timeout=wait_s)
        done += more
    for reference in pending:
        ray.cancel(reference, force=True)
    if not done:
        raise DeviceError(
            f"no GPU of {', '.join(hosts.values())} became free within "
            f"{_FIRST_ANSWER_TIMEOUT_S:.0f} s: other Ray jobs hold them (`ray status`)"
        )
    for reference in done:
        gpu = f"the GPU of {hosts[reference]}"
        try:
            failure: str | None = ray.get(reference)
        except RayError as error:
            raise DeviceError(f"{gpu} could not be tried: {last_line(error)}") from error
        if failure is not None:
            raise DeviceError(
                f"torch cannot use {gpu}: {failure}; update the driver, "
                "or install the packages of scripts/locks/cuda.lock there; trainer.device=cpu "
                "trains without"
            )
