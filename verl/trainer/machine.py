"""What a machine has: this one, or one that is described.

Guarantees: nothing here needs CUDA or starts a process other than ``nvidia-smi``; what cannot be
known is None, never a guess.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from verl.errors import UserError
from verl.utils.checklist import GIB
from verl.utils.surroundings import free_shared_memory

_QUERY = "index,uuid,name,memory.total,memory.used,driver_version,compute_mode"
_MIB = 1024.0**2
_FORM = re.compile(r"(\d+)x(\d+(?:\.\d+)?)(?:,ram=(\d+(?:\.\d+)?))?")
# Of the memory in a card's name, what CUDA offers: 79.2 of 80 GiB (A100), 23.6 of 24 (RTX 4090).
_OFFERED_SHARE = 0.985
# Limits of a container; "max" and huge numbers are none.
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class MachineFormError(UserError):
    """A description of a machine that cannot be read."""


@dataclass(frozen=True)
class Gpu:
    """One card; ``total_bytes`` and ``used_bytes`` as the driver counts them."""

    name: str
    total_bytes: float
    used_bytes: float = 0.0
    driver: str = ""
    compute_mode: str = ""


@dataclass(frozen=True)
class Machine:
    """One node.

    Attributes:
        described: by the user, so that nothing else is known of it.
        gpus: those that a run would see.
        ram_bytes: main memory, or the container's limit; None if not known.
        shm_bytes: free in ``/dev/shm``; None if not known.
        cpus: cores that this process may use; None if not known.
    """

    described: bool
    gpus: tuple[Gpu, ...]
    ram_bytes: float | None
    shm_bytes: float | None = None
    cpus: int | None = None

    @staticmethod
    def here() -> Machine:
        """This machine, with the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves."""
        return Machine.whole(os.environ.get("CUDA_VISIBLE_DEVICES"))

    @staticmethod
    def whole(visible: str | None = None) -> Machine:
        """This machine with all of its GPUs, for a process that Ray shows none; ``visible`` is as
        ``CUDA_VISIBLE_DEVICES``."""
        cards = output_of("nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
        return Machine(
            described=False,
            gpus=read_gpus(cards or "", visible),
            ram_bytes=_ram_here(),
            shm_bytes=free_shared_memory(),
            cpus=len(os.sched_getaffinity(0)),
        )

    @classmethod
    def parse(cls, text: str) -> Machine:
        """From ``4x80`` or ``4x80,ram=512``: GPUs a node x GiB each, main memory in GiB; raises
        :class:`MachineFormError` for another form."""
        match = _FORM.fullmatch(text)
        if match is None or int(match[1]) == 0:
            raise MachineFormError(
                f"--gpus {text!r} is not understood; write the GPUs of a node x GiB of each, e.g. "
                "4x80, and where you know it the main memory in GiB: 4x80,ram=512"
            )
        gpu = Gpu(f"{match[2]} GiB GPU", float(match[2]) * GIB * _OFFERED_SHARE)
        ram = float(match[3]) * GIB if match[3] else None
        return cls(described=True, gpus=(gpu,) * int(match[1]), ram_bytes=ram)


def free_disk(folder: Path) -> float:
    """Bytes that may be written under ``folder``, which need not exist yet."""
    path = folder.absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    return float(shutil.disk_usage(existing).free)


def _ram_here() -> float:
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _CGROUP_LIMITS:
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
        if text.isdigit():
            total = min(total, float(text))
    return total


def output_of(*command: str) -> str | None:
    """What a command prints; None where it is not there, fails, or takes more than 30 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def read_gpus(output: str, visible: str | None) -> tuple[Gpu, ...]:
    """GPUs of ``nvidia-smi``'s lines (comma-separated, no header, no units, the columns of this
    module's query) that ``CUDA_VISIBLE_DEVICES`` leaves, in its order; ``visible`` is its value,
    None where it is not set."""
    cards: dict[tuple[str, str], Gpu] = {}
    for line in output.splitlines():
        match [field.strip() for field in line.split(",")]:
            # A card that is split into MIG instances says [N/A].
            case [index, uuid, name, total, used, driver, mode] if total.isdigit():
                gpu = Gpu(name, int(total) * _MIB, int(used) * _MIB, driver, mode)
                cards[index, uuid] = gpu
    if visible is None:
        return tuple(cards.values())
    chosen = []
    for entry in filter(None, map(str.strip, visible.split(","))):
        found = [card for card in cards if card[0] == entry or card[1].startswith(entry)]
        if not found:  # as CUDA does: what follows a wrong entry is not seen
            break
        chosen.append(cards[found[0]])
    return tuple(chosen)
