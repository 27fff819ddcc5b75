"""A run with compiled decoder layers is the run without them, up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.integration.commands import metrics_of
from tests.soak.runs import compared, finish, launch, weights_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
SETTINGS = (
    "trainer.total_training_steps=3",
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
    for one, two in zip(metrics_of(plain), metrics_of(compiled), strict=True):
        for name, value in compared(one).items():
            assert two[name] == pytest.approx(value, rel=1e-3, abs=1e-4), (one["step"], name)
    found = weights_of(compiled, 3)
    for name, weight in weights_of(plain, 3).items():
        assert (weight - found[name]).abs().max() < 1e-4, name
