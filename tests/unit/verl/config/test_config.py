from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from router_r1.config import RouterConfig
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.loading import load_pool
from verl.config.sft import SFTConfig
from verl.config.validation import ConfigError, to_dataclass
from verl.trainer.launch import CONFIG_FOLDER, compose_config
from verl.trainer.roles import Roles
from verl.utils.redaction import REDACTED, redact
from verl.workers.rollout.vllm_replica import ReplicaSettings

RECIPES = sorted(path.stem for path in (CONFIG_FOLDER / "recipe").glob("*.yaml"))


def load(*overrides: str) -> RouterConfig:
    return to_dataclass(compose_config("ppo_trainer", overrides), RouterConfig)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid(recipe: str) -> None:
    config = load(f"recipe={recipe}")
    assert config.pool.offered
    assert config.trainer.default_local_dir.endswith(f"/{config.trainer.experiment_name}")


def test_the_papers_recipe() -> None:
    config = load("recipe=paper_qwen")
    policy, critic = config.actor_rollout_ref, config.critic
    assert policy.model.path == critic.model.path == "Qwen/Qwen2.5-3B-Instruct"
    assert (config.data.train_batch_size, policy.actor.ppo_mini_batch_size) == (64, 32)
    assert (policy.actor.optim.lr, critic.optim.lr) == (1e-6, 1e-5)
    assert (policy.actor.clip_ratio, critic.cliprange_value) == (0.2, 0.5)
    assert (policy.actor.entropy_coeff, policy.actor.optim.grad_clip) == (0.001, 1.0)
    assert config.algorithm.kl_ctrl.kl_coef == 0.001
    assert config.algorithm.kl_penalty == "kl"
    assert (config.trainer.total_training_steps, config.trainer.save_freq) == (225, 15)
    assert (config.max_turns, policy.rollout.n_agent) == (4, 1)
    assert len(config.pool.offered) == 6
    assert load("recipe=paper_llama").actor_rollout_ref.model.path.endswith("Llama-3.2-3B-Instruct")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trainer.total_steps=5", ("trainer.total_steps", "total_training_steps")),
        ("max_turn=3", ("max_turn", "max_turns")),
        ("actor_rollout_ref.actor.optim.learning_rate=1", ("learning_rate", "lr_warmup_steps")),
        ("reward_metric=accuracy", ("reward_metric", "accuracy", "em, f1")),
        ("cost_coe=1.5", ("cost_coe", "1.5")),
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
        ("pool.name_matching=fuzzy", ("name_matching", "exact, original")),
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
        load("recipe=paper_qwen", override)
    for word in words:
        assert word in str(error.value)


def test_engines_that_sleep_cannot_generate_beside_training() -> None:
    beside = ("trainer.async_level=1", "algorithm.rollout_correction.level=token")
    with pytest.raises(ConfigError, match="free_cache_engine=false"):
        load("recipe=paper_qwen", *beside)
    awake = "actor_rollout_ref.rollout.free_cache_engine=false"
    assert load("recipe=paper_qwen", *beside, awake).trainer.async_level == 1


def test_an_engine_on_cpu_has_one_rank() -> None:
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
    with pytest.raises(ConfigError, match=r"size=2 is for GPUs.*cpu_threads"):
        load("recipe=quickstart", size)
    # With device=auto it shows only where the engines start.
    rollout = load("recipe=paper_qwen", size).actor_rollout_ref.rollout
    with pytest.raises(ConfigError, match="is for GPUs"):
        ReplicaSettings.from_config(rollout, "model", "cpu", 128, seed=0, sleep=False)


def test_an_engine_that_spans_gpus_has_processes_of_its_own() -> None:
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size=2"
    with pytest.raises(ConfigError, match=r"inline_engine=true is for engines of one rank.*size=2"):
        load("recipe=paper_qwen", size, "actor_rollout_ref.rollout.inline_engine=true")


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
    raw = yaml.safe_load((CONFIG_FOLDER / "ppo_trainer.yaml").read_text())
    assert set(raw) - {"defaults"} <= {f.name for f in fields(RouterConfig)}
    raw = yaml.safe_load((CONFIG_FOLDER / "sft_trainer.yaml").read_text())
    assert set(raw) <= {f.name for f in fields(SFTConfig)}


def test_two_llms_with_one_name_are_refused() -> None:
    def llm(name: str, *aliases: str) -> LLMConfig:
        return LLMConfig(name=name, model=name, completion_price=1.0, aliases=list(aliases))

    with pytest.raises(ConfigError, match=r"'atlas' of LLM 'atlas' is already taken by 'Atlas'"):
        PoolConfig(name="mine", llms=[llm("Atlas"), llm("atlas")])
    with pytest.raises(ConfigError, match="already taken by 'Atlas'"):
        PoolConfig(name="mine", llms=[llm("Atlas", "big"), llm("Corvus", "BIG")])
    with pytest.raises(ConfigError, match="no LLM"):
        PoolConfig(name="mine", llms=[])


def test_a_broken_file_of_the_configuration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root.yaml").write_text("a: [\n  x: {", encoding="utf-8")
    monkeypatch.setattr("verl.trainer.launch.CONFIG_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"no YAML file: .*root\.yaml\", line 2"):
        compose_config("root", [])


@pytest.mark.parametrize("price", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["completion_price", "prompt_price"])
def test_what_is_no_price_is_refused(name: str, price: float) -> None:
    with pytest.raises(ConfigError, match=rf"LLM A: a price must be .* got {price}"):
        LLMConfig("A", "a", **{"completion_price": 1.0, name: price})


def test_a_pool_file_is_validated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embedded.*paper"):
        load_pool("nowhere")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nllms: [{name: A, model: a, completion_price: 1, prize: 2}]\n")
    with pytest.raises(ConfigError, match="prize"):
        load_pool(path)
    path.write_text("name: mine\nllms: [{name: A, model: a}]\n")
    with pytest.raises(ConfigError, match="completion_price"):
        load_pool(path)
    for broken in (b"name: [\n  x: {", b"name: \xff\n"):
        path.write_bytes(broken)
        with pytest.raises(ConfigError, match=r"mine\.yaml is no YAML file: "):
            load_pool(path)
    path.write_text("- a list\n")
    with pytest.raises(ConfigError, match="mapping"):
        load_pool(path)


def test_a_key_on_the_command_line_works_and_is_redacted_in_the_dump() -> None:
    config = load("api_key=sk-planted", "api_base=http://localhost:1/v1")
    assert config.api_key == "sk-planted"
    dump = redact(asdict(config))
    assert "sk-planted" not in str(dump)
    assert dump["api_key"] == REDACTED
    assert dump["data"]["max_prompt_length"] == config.data.max_prompt_length


def test_an_override_value_may_hold_colons_and_spaces() -> None:
    assert load("api_base='http://a:1/v1'").api_base == "http://a:1/v1"
