"""Driver, compute mode and compiler: what a CUDA run needs beside memory."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, Verdict, decide

# The oldest driver that runs programs of a CUDA major version (NVIDIA's minor-version
# compatibility).
_OLDEST_DRIVER = {12: 525, 13: 580}


def software_lines(machine: Machine) -> list[CheckLine]:
    """Lines for a CUDA run; of a described machine nothing of this can be told."""
    if machine.described:
        subject, advice = "driver, compute mode, compiler", "run --check on that machine"
        return [CheckLine(subject, Verdict.UNKNOWN, "not known", advice=advice)]
    lines = [compiler_line(os.environ.get("CC"), Path(sysconfig.get_paths()["include"]))]
    if machine.gpus:
        lines += [
            driver_line(machine.gpus[0].driver, torch.version.cuda),
            compute_mode_line([gpu.compute_mode for gpu in machine.gpus]),
        ]
    return lines


def driver_line(driver: str, cuda: str | None) -> CheckLine:
    """Whether the driver is new enough for torch's CUDA version; None is a CPU build of torch."""
    subject = "driver and torch"
    if cuda is None:
        found = f"driver {driver}, torch {torch.__version__} for the CPU"
        advice = "install it: VERL_LOCK=cuda bash scripts/setup.sh"
        return decide(False, subject, found, "torch for CUDA", advice)
    oldest = _OLDEST_DRIVER.get(int(cuda.split(".")[0]))
    found = f"driver {driver}, torch for CUDA {cuda}"
    major = driver.split(".")[0]
    if oldest is None or not major.isdigit():
        return CheckLine(subject, Verdict.UNKNOWN, found)
    needed, advice = f"driver {oldest} or newer", "update NVIDIA's driver"
    return decide(int(major) >= oldest, subject, found, needed, advice)


def compute_mode_line(modes: list[str]) -> CheckLine:
    """Trainer and engine share each GPU, which only the default mode allows."""
    wrong = ", ".join(sorted({mode for mode in modes if mode != "Default"}))
    advice = "set it: nvidia-smi -c DEFAULT (as root)"
    return decide(not wrong, "compute mode", wrong or "Default", "Default", advice)


def compiler_line(variable: str | None, include: Path) -> CheckLine:
    """Triton compiles at run time, with a C compiler (first that of ``CC``, whose value is
    ``variable``) and the ``Python.h`` of the folder ``include``."""
    compiler = next((c for c in (variable, "gcc", "clang", "cc") if c and shutil.which(c)), None)
    parts = {"C compiler": compiler, "Python.h": (include / "Python.h").is_file()}
    missing = [f"no {name}" for name, there in parts.items() if not there]
    found = " and ".join(missing) or f"{compiler}, {include}"
    advice = "on Debian: apt install gcc python3-dev"
    return decide(not missing, "C compiler and Python.h", found, advice=advice)
