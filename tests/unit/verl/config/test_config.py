from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest
import yaml

from tests.marked_ranges import marked_fields
from verl.config.ppo import PPOConfig
from verl.config.sft import SFTConfig
from verl.config.validation import ConfigError, changed_fields, to_dataclass
from verl.trainer.launch import CONFIG_FOLDER, compose_config
from verl.trainer.roles import Roles
from verl.workers.rollout.vllm_replica import ReplicaSettings


def load(*overrides: str) -> PPOConfig:
    """The framework's own root, for 64 prompts a step in two updates on four GPUs."""
    values = (
        *("task._target_=some.Task", "data.train_files=[a]", "data.val_files=[b]"),
        *("actor_rollout_ref.model.path=some/model", "trainer.n_gpus_per_node=4"),
        *("data.train_batch_size=64", "actor_rollout_ref.actor.ppo_mini_batch_size=32"),
    )
    return to_dataclass(compose_config("ppo", [*values, *overrides]), PPOConfig)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.total_steps=5", ("trainer.total_steps", "total_training_steps")),
        ("actor_rollout_ref.actor.optim.learning_rate=1", ("learning_rate", "lr_warmup_steps")),
        ("data.train_batch_size=many", ("data.train_batch_size", "many")),
        ("data.train_batch_size=0", ("data.train_batch_size", "0")),
        ("algorithm.adv_estimator=reinforce", ("adv_estimator", "gae, grpo")),
        ("algorithm.adv_estimator=grpo", ("n_agent", "2 or more")),
        ("trainer.start_timeout_s=0", ("trainer.start_timeout_s", "0")),
        (
            "actor_rollout_ref.rollout.tensor_model_parallel_size=3",
            ("tensor_model_parallel_size=3", "trainer.n_gpus_per_node=4"),
        ),
        (
            "actor_rollout_ref.rollout.num_replicas=5",
            ("num_replicas=5", "need 5 GPUs", "trainer.n_gpus_per_node = 4"),
        ),
        ("trainer.device=tpu", ("trainer.device", "auto, cpu, cuda")),
        ("trainer.logger=[print]", ("trainer.logger", "print", "jsonl")),
        ("data.max_start_length=9999", ("max_start_length", "max_prompt_length")),
        ("actor_rollout_ref.actor.ppo_mini_batch_size=24", ("ppo_mini_batch_size", "64", "24")),
        ("trainer.n_gpus_per_node=3", ("ppo_mini_batch_size", "3 ranks")),
        ("actor_rollout_ref.actor.state_masking=false", ("state_masking", "never")),
        ("actor_rollout_ref.actor.policy_loss=ppo", ("actor.policy_loss", "cispo, clip, gspo")),
        ("actor_rollout_ref.actor.loss_agg_mode=mean", ("loss_agg_mode", "token-mean")),
        ("actor_rollout_ref.actor.loss_agg_horizon=9", ("loss_agg_horizon=9", "sum-norm")),
        ("actor_rollout_ref.actor.clip_ratio_low=1.5", ("clip_ratio_low", "(0, 1]", "1.5")),
        ("actor_rollout_ref.actor.clip_ratio_high=0", ("clip_ratio_high", "> 0")),
        ("actor_rollout_ref.actor.clip_ratio_c=1", ("clip_ratio_c", "> 1")),
        ("algorithm.gamma=1.5", ("algorithm.gamma", "[0, 1]", "1.5")),
        ("algorithm.rollout_correction.level=off", ("correction.level", "token, sequence")),
        ("algorithm.rollout_correction.mode=clip", ("correction.mode", "truncate, mask")),
        ("algorithm.rollout_correction.upper=0.5", ("upper=0.5", "lower <= 1 <= upper")),
        ("algorithm.filter_groups.max_num_gen_batches=0", ("max_num_gen_batches", "> 0")),
        ("algorithm.filter_groups.enable=true", ("filter_groups.enable", "n_agent", "2 or more")),
        ("trainer.async_level=2", ("trainer.async_level", "0 or 1", "2")),
        ("trainer.async_level=1", ("async_level=1", "rollout_correction.level", "now null")),
        (
            "algorithm.rollout_log_probs_as_old=true",
            ("rollout_log_probs_as_old", "ppo_mini_batch_size=64 (now 32)"),
        ),
    ],
)
def test_a_wrong_value_names_key_and_choices(override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        load(override)
    for word in words:
        assert word in str(error.value)


def test_engines_that_sleep_cannot_generate_beside_training() -> None:
    beside = ("trainer.async_level=1", "algorithm.rollout_correction.level=token")
    with pytest.raises(ConfigError, match="free_cache_engine=false"):
        load(*beside)
    awake = "actor_rollout_ref.rollout.free_cache_engine=false"
    assert load(*beside, awake).trainer.async_level == 1


def test_an_engine_on_cpu_has_one_rank() -> None:
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
    with pytest.raises(ConfigError, match=r"size=2 is for GPUs.*cpu_threads"):
        load("trainer.device=cpu", size)
    # With device=auto it shows only where the engines start.
    rollout = load(size).actor_rollout_ref.rollout
    with pytest.raises(ConfigError, match="is for GPUs"):
        ReplicaSettings.from_config(rollout, "model", "cpu", 128, seed=0, sleep=False)


def test_an_engine_that_spans_gpus_has_processes_of_its_own() -> None:
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
    with pytest.raises(ConfigError, match=r"inline_engine=true is for engines of one rank.*size=2"):
        load(size, "actor_rollout_ref.rollout.inline_engine=true")


def test_batch_must_split_over_mini_batches_and_groups() -> None:
    with pytest.raises(ConfigError, match="train_batch_size"):
        load("data.train_batch_size=33")
    assert load("data.train_batch_size=16", "actor_rollout_ref.rollout.n_agent=4")


def test_where_the_kl_goes() -> None:
    gae = Roles.of(load())
    assert (gae.critic, gae.reference, gae.kl_in_reward) == (True, True, True)
    eight = "actor_rollout_ref.rollout.n_agent=8"
    grpo = load("algorithm.adv_estimator=grpo", eight)
    assert grpo.actor_rollout_ref.actor.use_kl_loss is True
    roles = Roles.of(grpo)
    assert (roles.critic, roles.reference, roles.kl_in_reward) == (False, True, False)
    no_kl = load("algorithm.adv_estimator=grpo", eight, "actor_rollout_ref.actor.use_kl_loss=false")
    assert not Roles.of(no_kl).reference
    in_reward = Roles.of(
        load("algorithm.adv_estimator=grpo", eight, "algorithm.use_kl_in_reward=true")
    )
    assert in_reward.kl_in_reward


@pytest.mark.parametrize(
    "overrides",
    [
        ("algorithm.adv_estimator=gae", "algorithm.kl_ctrl.kl_coef=0"),
        (
            "algorithm.adv_estimator=grpo",
            "actor_rollout_ref.rollout.n_agent=8",
            "actor_rollout_ref.actor.kl_loss_coef=0",
        ),
    ],
)
def test_a_coefficient_of_zero_needs_no_reference(overrides: tuple[str, ...]) -> None:
    config = load(*overrides)
    roles = Roles.of(config)
    assert (roles.reference, roles.kl_in_reward) == (False, False)
    assert not config.actor_rollout_ref.actor.has_kl_loss


def test_the_horizon_of_the_constant_aggregation_is_the_longest_trajectory() -> None:
    mode = "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm"
    assert load(mode).actor_rollout_ref.actor.loss_agg_horizon == 4096
    explicit = load(mode, "actor_rollout_ref.actor.loss_agg_horizon=100")
    assert explicit.actor_rollout_ref.actor.loss_agg_horizon == 100
    assert load().actor_rollout_ref.actor.loss_agg_horizon is None


def test_the_clip_has_one_bound_unless_told_otherwise() -> None:
    assert load("actor_rollout_ref.actor.clip_ratio=0.3").actor_rollout_ref.actor.clip_bounds == (
        0.3,
        0.3,
    )
    high = load("actor_rollout_ref.actor.clip_ratio_high=0.28").actor_rollout_ref.actor
    assert high.clip_bounds == (0.2, 0.28)
    with pytest.raises(ConfigError, match=r"clip_ratio_c=3.0 is the dual clip.*gspo set it to nu"):
        load("actor_rollout_ref.actor.policy_loss=gspo", "actor_rollout_ref.actor.clip_ratio_c=3")


def test_the_engines_log_probs_are_old_only_where_that_holds() -> None:
    on_policy = (
        "algorithm.rollout_log_probs_as_old=true",
        "actor_rollout_ref.actor.ppo_mini_batch_size=64",
    )
    assert load(*on_policy).algorithm.rollout_log_probs_as_old
    for override, words in (
        ("actor_rollout_ref.actor.ppo_epochs=2", r"ppo_epochs=1 \(now 2\)"),
        ("actor_rollout_ref.rollout.top_p=0.9", r"full distribution.*top_p=1 \(now 0.9\)"),
        ("algorithm.rollout_correction.level=token", r"rollout_correction does nothing"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(*on_policy, override)


def test_the_yaml_root_shows_only_known_groups() -> None:
    for root, schema in (("ppo", PPOConfig), ("sft_trainer", SFTConfig)):
        raw = yaml.safe_load((CONFIG_FOLDER / f"{root}.yaml").read_text())
        assert set(raw) <= {f.name for f in fields(schema)}


def test_a_broken_file_of_the_configuration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root.yaml").write_text("a: [\n  x: {", encoding="utf-8")
    monkeypatch.setattr("verl.trainer.launch.CONFIG_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"no YAML file: .*root\.yaml\", line 2"):
        compose_config("root", [])


@pytest.mark.parametrize(("schema", "name"), marked_fields(PPOConfig, SFTConfig))
def test_a_number_out_of_its_range_is_refused(schema: type, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be .*, got -1"):
        schema(**{name: -1})


@dataclass
class Inner:
    size: int = 2
    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    path: str
    inner: Inner = field(default_factory=Inner)
    rate: float | None = None


def test_changed_fields_are_those_that_are_not_at_their_defaults() -> None:
    assert changed_fields(Outer("a")) == {"path": "a"}
    changed = changed_fields(Outer("a", Inner(names=["b"]), 0.5))
    assert changed == {"path": "a", "inner": {"names": ["b"]}, "rate": 0.5}
