"""Ray's life in a run: starts it here or joins a cluster, and leaves no process behind.

Guarantees: whoever sets neither ``ray.address`` nor ``RAY_ADDRESS`` gets a Ray of their own, also
where a cluster runs on this node; a cluster that cannot be joined, or whose nodes cannot import
this project, ends in one :class:`ClusterError`; workers see the same code, and the same settings
of the libraries, on every node.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import AuthenticationError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl.config.ppo import RayConfig
from verl.errors import UserError
from verl.utils.surroundings import provide_ray_token

PROJECT_ROOT = Path(__file__).resolve().parents[2]
ADDRESS_VARIABLE = "RAY_ADDRESS"
OWN = "local"
_CONNECT_TIMEOUT_S = 10.0
_IMPORT_TIMEOUT_S = 120.0
_LATE = "timed out during startup"
# Settings of libraries that a worker must share with the driver. No keys: Ray shows the environment
# of a job to whoever may look at the cluster.
_SHARED_VARIABLES = ("HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE")
_SHARED_PREFIXES = ("NCCL_", "GLOO_", "VLLM_")

logger = logging.getLogger(__name__)


class ClusterError(UserError):
    """A Ray cluster that cannot be joined or used; the message says what to do."""


@contextmanager
def ray_cluster(config: RayConfig, num_ranks: int) -> Iterator[None]:
    """Starts Ray here, with a CPU slot for each of the ranks at least, or joins the cluster that
    ``config`` means; leaves it at the end.

    Raises:
        ClusterError: if Ray does not start, the cluster cannot be joined, or a node of it cannot
            import this project.
    """
    address = choose_address(config.address)
    # Worker processes without GPU keep CUDA_VISIBLE_DEVICES as it is, here and on other nodes.
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    if address == OWN:
        _start(config.num_cpus or max(os.cpu_count() or 1, num_ranks))
    else:
        _join(address)
    # Ray's own handler, and the system's of SIGUSR1 (Slurm's warning), would leave our processes
    # behind.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)
    try:
        if address != OWN:
            require_project_everywhere()
        yield
    finally:
        ray.shutdown()


def choose_address(configured: str | None) -> str:
    """``OWN``, "auto" or host:port; see :class:`RayConfig` for the rule.

    Raises:
        ClusterError: if the address is that of another protocol, or none.
    """
    named = os.environ.get(ADDRESS_VARIABLE, "").strip()
    # Ray itself lets the variable decide what "auto" is.
    if named and configured in (None, "", "auto"):
        source, address = ADDRESS_VARIABLE, named
    else:
        source, address = "ray.address", configured or OWN
    if address in (OWN, "auto"):
        return address
    if "://" in address:
        raise ClusterError(
            f"{source}={address} cannot be joined: a run takes part in the cluster, so it needs "
            "the head's own address, host:port (6379 unless `ray start` was told otherwise), not "
            "that of its dashboard or of Ray Client; ray.address=local starts a Ray for this run"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ClusterError(f"{source}={address!r} is not local, auto or host:port")
    return address


def _start(num_cpus: int) -> None:
    """Twice, if Ray's processes are not up within its own 30 s: a busy machine has the second try's
    files in memory."""
    provide_ray_token()
    # Workers in reserve would not have a run's environment, and never be used.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    for attempt in (1, 2):
        try:
            _init(address=OWN, num_cpus=num_cpus, include_dashboard=False)
        except Exception as error:  # Ray has no kind of its own for it
            ray.shutdown()
            if _LATE not in str(error):
                raise
            if attempt == 2:
                raise ClusterError(
                    "Ray did not start within 30 s, twice (load "
                    f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} cores); give the command again "
                    f"when the machine is less busy. Ray says: {error}"
                ) from error
            logger.warning("Ray did not start in time, and is started once more")
        else:
            return


def _init(**options: Any) -> None:
    ray.init(
        logging_level=logging.ERROR,
        log_to_driver=os.environ.get("VERL_WORKER_LOGS") == "1",
        runtime_env={"env_vars": worker_environment()},
        **options,
    )


def _join(address: str) -> None:
    if address == os.environ.get(ADDRESS_VARIABLE, "").strip():
        logger.info(
            "joining the Ray cluster at %s, because %s is set (ray.address=local starts one for "
            "this run)",
            *(address, ADDRESS_VARIABLE),
        )
    if address != "auto":
        _require_listener(address)
    try:
        with _without_native_log():
            _init(address=address)
    except (AuthenticationError, ConnectionError) as error:
        # A token that the head refuses is told from other causes in Ray's native log alone.
        raise ClusterError(
            f"the Ray head at {address} does not let this run in ({_root_cause(error)}). If the "
            "cluster wants a token: set RAY_AUTH_MODE=token here, and give the token of `ray "
            "start` (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token)"
        ) from error
    except (RuntimeError, ValueError, RayError) as error:
        raise ClusterError(
            f"the Ray cluster at {address} cannot be joined: {_root_cause(error)}"
        ) from error


@contextmanager
def _without_native_log() -> Iterator[None]:
    """Ray's C++ part warns on the process's standard error until it gives up; the error that it
    raises then says enough."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _require_listener(address: str) -> None:
    """Ray waits minutes for a head that is not there, then ends the process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray head answers at {address} ({error}); is it running (`ray status`), is the "
            "port open from here? ray.address=local starts a Ray for this run"
        ) from error


def _root_cause(error: BaseException) -> str:
    """Its first sentence: Ray adds pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).split(". ")[0]


def worker_environment() -> dict[str, str]:
    """What every worker process finds in its environment, on whatever node."""
    own_path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    shared = {
        name: value
        for name, value in os.environ.items()
        if name in _SHARED_VARIABLES or name.startswith(_SHARED_PREFIXES)
    }
    return {
        **shared,
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), *map(os.path.abspath, own_path)]),
        "PYTHONUTF8": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def live_nodes() -> list[dict[str, Any]]:
    """Ray's description of each node that is up."""
    return [node for node in ray.nodes() if node["Alive"]]


def ask_node(function: Callable[[], Any], node: dict[str, Any], **options: Any) -> ray.ObjectRef:
    """What ``function`` returns there; it takes no CPU slot, other options are those of a task."""
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(num_cpus=0)(function)
    return task.options(scheduling_strategy=there, **options).remote()


def last_line(error: RayError) -> str:
    """The cause, below the traces of several processes."""
    return str(error).strip().splitlines()[-1]


def require_project_everywhere() -> None:
    """Raises :class:`ClusterError` for a node that cannot import what this driver imports."""
    nodes = live_nodes()
    asked = [ask_node(_import_project, node, max_retries=0) for node in nodes]
    for node, reference in zip(nodes, asked, strict=True):
        try:
            ray.get(reference, timeout=_IMPORT_TIMEOUT_S)
        except RayError as error:
            raise ClusterError(
                f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}) of the Ray "
                f"cluster cannot import this project from {PROJECT_ROOT}: {last_line(error)}. "
                "Every node needs this folder at the same path (a shared file system), and `ray "
                "start` from the same Python environment"
            ) from error
    logger.info(
        "the Ray cluster has %d node%s with CPU=%g, GPU=%g",
        len(nodes),
        "" if len(nodes) == 1 else "s",
        ray.cluster_resources().get("CPU", 0),
        ray.cluster_resources().get("GPU", 0),
    )


def _import_project() -> None:
    """Runs on a node. That it arrives there shows that the node can import this module."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
