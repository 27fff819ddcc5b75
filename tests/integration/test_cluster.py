"""Runs on a Ray cluster that others have started: two nodes, from another folder, with a token."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands import POLICY, ROOT, SMALL, Command, start
from verl.trainer import cluster
from verl.trainer.cluster import ClusterError, require_project_everywhere
from verl.trainer.cluster_device import settle_device
from verl.utils.device import DeviceError

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
# What depends on the clock, and the bill: a replay costs nothing.
UNEQUAL = ("timing_", "pool/")
INTERRUPTED = 130
DEVICES = ("cpu: ", "auto: ", "cuda: ")
JOIN = """
import os, signal, sys
from verl.config.ppo import RayConfig
from verl.errors import UserError
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.launch import run_as_command

def main(_):
    with ray_cluster(RayConfig(), num_ranks=1):
        for device in ("cpu", "auto", "cuda"):
            try:
                sys.stdout.write(f"{device}: {settle_device(device)}\\n")
            except UserError as error:
                sys.stdout.write(f"{device}: {error}\\n")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

run_as_command(main)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The head of a cluster of two nodes that runs in a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("two_nodes.py"))],
        cwd=tmp_path_factory.mktemp("raylets"),
        env={"PATH": "/usr/bin:/bin", **TOKEN},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith("address="))
        yield line.strip().removeprefix("address=")
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def join(address: str, folder: Path, **environment: str) -> Command:
    """A driver that joins by ``RAY_ADDRESS``, settles its device, and is told to end."""
    command = start(
        *(sys.executable, "-c", JOIN),
        folder=folder,
        PYTHONPATH=str(ROOT),
        RAY_ADDRESS=address,
        **environment,
    )
    command.finish()
    return command


def test_a_gpu_counts_where_the_workers_are(address: str, tmp_path: Path) -> None:
    """The head has none; the other node's GPU is counted, tried, and found to be none."""
    joined = join(address, tmp_path, **TOKEN)
    assert joined.process.returncode == INTERRUPTED, joined.output
    assert joined.survivors() == []
    said = dict(line.rstrip().split(": ", 1) for line in joined.lines if line.startswith(DEVICES))
    assert said["cpu"] == "cpu"
    for device in ("auto", "cuda"):
        assert "torch cannot use the GPU of" in said[device]
        assert "a CPU build" in said[device]
        assert "trainer.device=cpu" in said[device]
    assert "joining the Ray cluster at" in joined.output
    assert "2 nodes" in " ".join(joined.output.split())


def test_a_cluster_that_wants_a_token_says_so_in_one_message(address: str, tmp_path: Path) -> None:
    no_token = {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    for environment in (no_token, {"RAY_AUTH_MODE": "disabled"}):
        refused = join(address, tmp_path, **environment)
        assert refused.process.returncode == 2, refused.output
        message = " ".join(refused.output.split())
        assert f"the Ray head at {address} does not let this run in" in message
        assert "set RAY_AUTH_MODE=token here" in message
        assert "Traceback" not in message
        assert "rpc_client" not in message


@pytest.mark.usefixtures("ray_session")
def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu() -> None:
    assert settle_device("auto") == "cpu"
    with pytest.raises(DeviceError, match=r"trainer\.device=cuda, but Ray finds no GPU on"):
        settle_device("cuda")


@pytest.mark.usefixtures("ray_session")
def test_a_node_that_cannot_import_the_project_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Played by a module that only the driver has."""
    module = types.ModuleType("only_on_the_driver")
    exec("def probe(): return None", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    require_project_everywhere()
    monkeypatch.setattr(cluster, "_import_project", module.probe)
    with pytest.raises(ClusterError, match=r"cannot import this project from .*only_on_the_driver"):
        require_project_everywhere()


def test_a_check_asks_the_cluster_that_the_run_would_join(address: str, tmp_path: Path) -> None:
    checked = start(
        *("bash", "train.sh", "--check", "recipe=quickstart", f"world.folder={tmp_path}"),
        RAY_ADDRESS=address,
        **TOKEN,
    )
    assert checked.finish() == 0, checked.output
    said = " ".join(checked.output.split())
    assert "Ray CPUs ok" in said
    assert "free of" in said
    assert "main memory: training ok" in said


@pytest.mark.engine
def test_two_nodes_train_as_one_does(
    address: str, small_run: tuple[Command, Path], tmp_path: Path
) -> None:
    """One rank on each of two nodes, joined from another folder with relative paths, gives the
    metrics of the small run's two ranks under a Ray of its own, whose calls it replays."""
    _, alone = small_run
    shutil.copytree(POLICY, tmp_path / "policy")
    shutil.copy(alone / "calls.sqlite", tmp_path)
    joined = start(
        *(sys.executable, "-m", "verl.trainer.main_ppo", "recipe=quickstart", *SMALL),
        *("cold_start=null", "actor_rollout_ref.model.path=./policy", "world.folder=world"),
        *("trainer.default_local_dir=out", "trainer.logger=[jsonl]"),
        *("trainer.n_gpus_per_node=1", "trainer.nnodes=2", "trainer.total_training_steps=3"),
        *("pool.recording.mode=replay", "pool.recording.path=calls.sqlite"),
        folder=tmp_path,
        PYTHONPATH=str(ROOT),
        RAY_ADDRESS=address,
        CUDA_VISIBLE_DEVICES="",
        **TOKEN,
    )
    assert joined.finish() == 0, joined.output
    assert "joining the Ray cluster" in joined.output
    expected, found = metrics(alone), metrics(tmp_path / "out")
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for one, two in zip(expected, found, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)
    steps = [line for line in expected if "env/number_of_valid_route" in line]
    assert all(line["env/number_of_valid_route"] > 0 for line in steps), "the pool was asked"
    assert (tmp_path / "out" / "checkpoints" / "global_step_3" / "actor").is_dir()
    assert joined.survivors() == []


def metrics(folder: Path) -> list[dict[str, float]]:
    """What both runs must agree on, a line a step or validation."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith(UNEQUAL)}
        for line in lines
    ]
