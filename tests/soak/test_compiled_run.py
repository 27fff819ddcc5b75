"""A run with compiled decoder layers is the run without them, up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.integration.commands import POLICY, metrics_of
from tests.soak.runs import compared, finish, launch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
STEPS = 2
SETTINGS = (
    f"trainer.total_training_steps={STEPS}",
    "actor_rollout_ref.model.enable_gradient_checkpointing=true",
)


def test_a_compiled_run_is_the_plain_run(tmp_path: Path) -> None:
    """Actor, reference and critic on two ranks, with checkpointing; calls are replayed."""
    calls, plain, compiled = tmp_path / "calls.sqlite", tmp_path / "plain", tmp_path / "compiled"
    finish(launch(plain, calls, *SETTINGS))
    finish(launch(compiled, calls, *SETTINGS, "actor_rollout_ref.model.torch_compile=true"))
    for folder, is_compiled in ((plain, False), (compiled, True)):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        for model in (config["actor_rollout_ref"]["model"], config["critic"]["model"]):
            assert model["torch_compile"] is is_compiled
    one, two = metrics_of(plain)[0], metrics_of(compiled)[0]
    for name, value in compared(one).items():
        if not name.endswith("clipfrac"):  # a token more or less at the bound
            assert two[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    # Adam makes steps of one size of gradients that are rounding alone.
    before, expected, found = (
        load_file(POLICY / "model.safetensors"),
        *both_weights(plain, compiled),
    )
    moved = sum(float((expected[name] - before[name]).square().sum()) for name in before)
    apart = sum(float((expected[name] - found[name]).square().sum()) for name in before)
    assert moved > 0
    assert (apart / moved) ** 0.5 < 0.05


def both_weights(*runs: Path) -> list[dict[str, torch.Tensor]]:
    """Of the actor, after the last step."""
    return [
        load_file(run / f"checkpoints/global_step_{STEPS}/actor/model.safetensors") for run in runs
    ]
