"""Engines lie where the trainer's processes say they are, whatever names their GPUs have there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.integration.commands import ROOT


def look(
    machines: dict[str, int], *situations: dict[str, Any], visible: str | None = None
) -> list[dict[str, Any]]:
    """What the processes of :mod:`tests.integration.gpu_books` say, by situation.

    ``visible``: what CUDA_VISIBLE_DEVICES is set to before Ray starts.
    """
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.integration.gpu_books"),
            *(json.dumps(machines), json.dumps(situations)),
        ],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    for one in said:
        assert {node for node, _ in one["engines"]} == {node for node, _ in one["trainer"]}
    return said


def devices(places: list[list[str]]) -> list[str]:
    return [device for _, device in places]


def test_each_engine_gets_the_gpu_of_its_trainer() -> None:
    """One group; then two groups on one node, beside another job's GPU."""
    plain, shared = look({"gpus": 4}, {}, {"per_node": [1, 1], "busy": 1, "evaluation": 4})
    for said in (plain, shared):
        assert said["engines"] == said["trainer"], "node and GPU, in the order of the ranks"
        assert len(set(devices(said["engines"]))) == 2
    assert sorted(devices(plain["engines"])) == ["0", "1"]
    assert plain["free"] == 4
    assert "GPU: 4 needed, 4 there, 1 busy" in shared["free"]
    assert "num_replicas" in shared["free"]


def test_preset_gpus_keep_their_names_and_an_engine_of_two_gets_both() -> None:
    """As CUDA_VISIBLE_DEVICES=… bash train.sh, by number and by UUID."""
    (said,) = look(
        {"gpus": 4},
        {"per_node": [2, 2], "tensor_parallel": 2, "evaluation": 2},
        visible="4,5,GPU-5f6a-1,GPU-77b0-2",
    )
    names = devices(said["trainer"])
    assert sorted(names) == ["4", "5", "GPU-5f6a-1", "GPU-77b0-2"]
    assert devices(said["engines"]) == [",".join(names[:2]), ",".join(names[2:])]
    assert said["free"] == 2


def test_each_node_has_its_own_engines() -> None:
    (said,) = look({"gpus": 1, "nodes": 2}, {"per_node": [1, 1]})
    assert said["engines"] == said["trainer"]
    assert devices(said["engines"]) == ["0", "0"]
    assert len({node for node, _ in said["engines"]}) == 2
    assert said["free"] == 2
