"""The paper's recipe with everything that a changing market asks for, on a tiny policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from router_r1.llm_agent.trajectory import RoutedTrajectory
from tests.integration.commands import metrics_of, start
from tests.soak.runs import finish
from verl.trainer.evaluation.records import read_parquet
from verl.trainer.evaluation.score import scored_file

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
HELD_OUT = "Indus"
NAMES = "[Atlas, Borealis, Corvus, Draco, Electra, Fornax]"
MARKET = (
    *("cost_coe=[0, 0.3]", "state_cost_coe=true", "state_prices=true", "question_limit.calls=2"),
    *("pool.share_equal_calls=true", "reward.latency_coe=0.2", "reward.form=multiplicative"),
    *("reward.cost_reference=fixed", "reward.cost_window=16"),
)
# The tiny policy is taught the format under this recipe's own prompts, in the one style it knows.
SMALL = (
    *("pool=embedded_tiers", "prompt_style=compact"),
    *("trainer.device=cpu", "trainer.n_gpus_per_node=2", "trainer.total_training_steps=2"),
    *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.logger=[console,jsonl]"),
    *("data.train_batch_size=16", "data.val_data_num=16", "evaluation.limit=32"),
    *("data.max_response_length=48", "data.max_obs_length=64"),
    *("data.max_start_length=512", "data.max_prompt_length=768"),
    *("actor_rollout_ref.model.dtype=float32", "actor_rollout_ref.rollout.dtype=float32"),
    *("actor_rollout_ref.rollout.enforce_eager=true", "actor_rollout_ref.rollout.cpu_threads=2"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=8", "critic.ppo_mini_batch_size=8"),
)

GATE = "{names: 0.5, copies: 0.6}"  # of a policy that is taught for two minutes


def offer(held_out: str) -> str:
    return (
        f"offer={{size: 3, by_tier: true, names: {NAMES}, price_jitter: 0.2, held_out: {held_out}}}"
    )


def test_the_papers_recipe_takes_all_of_it(tmp_path: Path) -> None:
    """Trains, and is scored with an LLM that training held out."""
    world, cold = tmp_path / "world", tmp_path / "cold"
    settings = (
        *(*SMALL, *MARKET, f"trainer.default_local_dir={tmp_path}/run"),
        f"world={{folder: {world}}}",
        f"cold_start={{folder: {cold}, steps: 240, gate_freq: 240, gate: {GATE}}}",
        f"actor_rollout_ref.model.path={cold}",
        *(f"data.train_files=[{world}/train.parquet]", f"data.val_files=[{world}/test.parquet]"),
    )
    finish(start("bash", "train.sh", *settings, offer(f"[{HELD_OUT}]"), RECIPE="paper_qwen"))
    first, *_, last = metrics_of(tmp_path / "run")
    assert last["pool/outcome/ok"] > 0
    assert first[f"reward/calls/{HELD_OUT}"] == 0
    assert first["reward/latency_reward"] != 0.0

    scored = start("bash", "test.sh", *settings, offer("[]"), RECIPE="paper_qwen")
    assert scored.finish() == 0, scored.output
    page = (tmp_path / "run" / "eval" / "report.html").read_text(encoding="utf-8")
    assert "LLMs never seen in training" in page
    records = read_parquet(
        scored_file(tmp_path / "run" / "eval", RoutedTrajectory), RoutedTrajectory
    )
    calls = [sum(call.ok for call in record.trajectory.calls) for record in records]
    assert 0 < max(calls) <= 2
    assert {record.trajectory.cost_coe for record in records} == {0.0, 0.3}
