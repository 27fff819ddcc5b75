"""Driver, compute mode and compiler: what a CUDA run needs beside memory."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

import torch

from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, Verdict

# The oldest driver that runs programs of a CUDA major version (NVIDIA's minor-version
# compatibility).
_OLDEST_DRIVER = {12: 525, 13: 580}


def software_lines(machine: Machine) -> list[CheckLine]:
    """Lines for a CUDA run; of a described machine nothing of this can be told."""
    if machine.described:
        return [
            CheckLine(
                "driver, compute mode, compiler",
                Verdict.UNKNOWN,
                "not known",
                advice="run --check on that machine",
            )
        ]
    lines = [compiler_line(os.environ.get("CC"), Path(sysconfig.get_paths()["include"]))]
    if machine.gpus:
        lines += [
            driver_line(machine.gpus[0].driver, torch.version.cuda),
            compute_mode_line([gpu.compute_mode for gpu in machine.gpus]),
        ]
    return lines


def driver_line(driver: str, cuda: str | None) -> CheckLine:
    """Whether the driver is new enough for torch's CUDA version; None is a CPU build of torch."""
    if cuda is None:
        return CheckLine(
            "driver and torch",
            Verdict.NOT_OK,
            f"driver {driver}, torch {torch.__version__} for the CPU",
            "torch for CUDA",
            "install it: VERL_LOCK=cuda bash scripts/setup.sh",
        )
    oldest = _OLDEST_DRIVER.get(int(cuda.split(".")[0]))
    found = f"driver {driver}, torch for CUDA {cuda}"
    major = driver.split(".")[0]
    if oldest is None or not major.isdigit():
        return CheckLine("driver and torch", Verdict.UNKNOWN, found)
    verdict = Verdict.OK if int(major) >= oldest else Verdict.NOT_OK
    advice = "" if verdict is Verdict.OK else "update NVIDIA's driver"
    return CheckLine("driver and torch", verdict, found, f"driver {oldest} or newer", advice)


def compute_mode_line(modes: list[str]) -> CheckLine:
    """Trainer and engine share each GPU, which only the default mode allows."""
    wrong = sorted({mode for mode in modes if mode != "Default"})
    return CheckLine(
        "compute mode",
        Verdict.NOT_OK if wrong else Verdict.OK,
        ", ".join(wrong) or "Default",
        "Default",
        "set it: nvidia-smi -c DEFAULT (as root)" if wrong else "",
    )


def compiler_line(variable: str | None, include: Path) -> CheckLine:
    """Triton compiles with a C compiler and Python's headers at run time.

    Args:
        variable: the value of ``CC``, which Triton takes first.
        include: the folder that should hold ``Python.h``.
    """
    compiler = next((c for c in (variable, "gcc", "clang", "cc") if c and shutil.which(c)), None)
    headers = (include / "Python.h").is_file()
    missing = [
        name for name, there in (("C compiler", compiler), ("Python.h", headers)) if not there
    ]
    return CheckLine(
        "C compiler and Python.h",
        Verdict.NOT_OK if missing else Verdict.OK,
        f"no {' and no '.join(missing)}" if missing else f"{compiler}, {include}",
        advice="on Debian: apt install gcc python3-dev" if missing else "",
    )
