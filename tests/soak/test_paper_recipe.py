"""The paper's recipe with everything that a changing market asks for, on a tiny policy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import Outcome
from router_r1.world.dataset import write_world
from router_r1.world.simulated_llm import World
from tests.integration.commands import POLICY, metrics_of, start
from tests.pool_stub import ok, stub
from tests.soak.runs import finish, launch
from verl.trainer.evaluation.records import read_parquet
from verl.trainer.evaluation.score import scored_file

pytestmark = [pytest.mark.engine, pytest.mark.timeout(3600)]
# Under names that the tiny policy can write.
NAMES = "[Atlas, Borealis, Corvus, Draco, Electra, Fornax]"
MARKET = (
    *("cost_coe=[0, 0.3]", "state_cost_coe=true", "state_prices=true", "question_limit.calls=2"),
    *("pool.name_matching=exact", "pool.share_equal_calls=true"),
    *("reward.latency_coe=0.2", "reward.form=multiplicative"),
    *("reward.cost_reference=fixed", "reward.cost_window=16"),
)
SMALL = (
    *("trainer.device=cpu", "trainer.n_gpus_per_node=2", "trainer.total_training_steps=2"),
    *("trainer.test_freq=-1", "trainer.val_before_train=false", "trainer.logger=[console,jsonl]"),
    *("data.train_batch_size=16", "data.val_data_num=16", "evaluation.limit=32"),
    "data.max_response_length=48",
    *("data.max_start_length=1700", "data.max_prompt_length=1990", "data.max_obs_length=64"),
    *("actor_rollout_ref.model.dtype=float32", "actor_rollout_ref.rollout.dtype=float32"),
    *("actor_rollout_ref.rollout.enforce_eager=true", "actor_rollout_ref.rollout.cpu_threads=2"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=8", "critic.ppo_mini_batch_size=8"),
)


def offer(held_out: str) -> str:
    return (
        f"offer={{size: 3, by_tier: true, names: {NAMES}, price_jitter: 0.2, held_out: {held_out}}}"
    )


def test_the_papers_recipe_takes_all_of_it(
    tmp_path: Path, world: World, embedded_pool: PoolConfig
) -> None:
    """Trains, and is scored with an LLM that training held out."""
    finish(launch(tmp_path / "first", tmp_path / "c.sqlite", "trainer.total_training_steps=1"))
    files = write_world(world, embedded_pool, tmp_path)
    run = tmp_path / "run"
    with stub(lambda _: ok("Herbert")) as endpoint:
        settings = (
            *SMALL,
            *MARKET,
            f"actor_rollout_ref.model.path={POLICY}",
            f"data.train_files=[{files['train']}]",
            f"data.val_files=[{files['validation']}]",
            f"trainer.default_local_dir={run}",
            f"api_base={endpoint.url}",
        )
        environment = {"RECIPE": "paper_qwen", "ROUTER_R1_API_KEY": "sk-x"}
        finish(start("bash", "train.sh", *settings, offer("[Gemma-2-27B-Instruct]"), **environment))
        asked = [request.body for request in endpoint.sent if "messages" in request.body]
        scored = start("bash", "test.sh", *settings, offer("[]"), **environment)
        assert scored.finish() == 0, scored.output
    assert "LLMs never seen in training" in scored.output
    assert asked
    assert "google/gemma-2-27b-it" not in {body["model"] for body in asked}
    first, *_, last = metrics_of(run)
    assert first["reward/latency_reward"] != 0.0
    assert last["pool/outcome/ok"] > 0
    records = read_parquet(scored_file(run / "eval", RoutedTrajectory), RoutedTrajectory)
    sent = Counter(
        record.uid
        for record in records
        for call in record.trajectory.calls
        if call.result.outcome is Outcome.OK
    )
    assert max(sent.values()) <= 2
    weights = {record.trajectory.cost_coe for record in records}
    assert weights == {0.0, 0.3}
