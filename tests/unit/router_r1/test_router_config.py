"""The root of training a router: recipes, what is refused, keys, paths."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_r1.config import RouterConfig
from router_r1.inference.arguments import RouterArguments
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.serve.config import ServerConfig
from tests.marked_ranges import marked_fields
from verl.config.paths import make_paths_absolute
from verl.config.validation import ConfigError, to_dataclass
from verl.trainer.launch import CONFIG_FOLDER, compose_config, load_task_config
from verl.utils.redaction import REDACTED, redact

RECIPES = sorted(path.stem for path in (CONFIG_FOLDER / "recipe").glob("*.yaml"))


def load(*overrides: str) -> RouterConfig:
    return to_dataclass(compose_config("ppo_trainer", overrides), RouterConfig)


def load_in(root: Path, *overrides: str) -> RouterConfig:
    config = load(*overrides)
    make_paths_absolute(config, root)
    return config


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
        ("max_turn=3", ("max_turn", "max_turns")),
        ("reward_metric=accuracy", ("reward_metric", "accuracy", "em, f1")),
        ("cost_coe=1.5", ("cost_coe", "1.5")),
        ("pool.name_matching=fuzzy", ("name_matching", "exact, original")),
    ],
)
def test_a_wrong_value_of_the_routers_names_key_and_choices(
    override: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as error:
        load("recipe=paper_qwen", override)
    for word in words:
        assert word in str(error.value)


def test_the_root_shows_only_groups_that_are_known() -> None:
    raw = yaml.safe_load((CONFIG_FOLDER / "ppo_trainer.yaml").read_text())
    assert set(raw) - {"defaults"} <= {f.name for f in fields(RouterConfig)}


def test_a_key_on_the_command_line_works_and_is_redacted_in_the_dump() -> None:
    config = load("api_key=sk-planted", "api_base=http://localhost:1/v1")
    assert config.api_key == "sk-planted"
    dump = redact(asdict(config))
    assert "sk-planted" not in str(dump)
    assert dump["api_key"] == REDACTED
    assert dump["data"]["max_prompt_length"] == config.data.max_prompt_length


def test_an_override_value_may_hold_colons_and_spaces() -> None:
    assert load("api_base='http://a:1/v1'").api_base == "http://a:1/v1"


def test_every_path_that_a_worker_may_see_is_absolute(tmp_path: Path) -> None:
    config = load_in(tmp_path, "recipe=quickstart", "pool.recording.path=calls.sqlite")
    assert config.world is not None
    assert config.cold_start is not None
    assert config.trainer.default_local_dir == f"{tmp_path}/outputs/quickstart"
    assert config.evaluation.folder == f"{tmp_path}/outputs/quickstart/eval"
    assert config.cold_start.folder == f"{tmp_path}/.cache/cold_start"
    assert config.world.folder == f"{tmp_path}/data/world"
    assert config.pool.recording.path == f"{tmp_path}/calls.sqlite"
    # The folder that the cold start has yet to make.
    assert config.actor_rollout_ref.model.path == config.critic.model.path
    assert config.actor_rollout_ref.model.path == config.cold_start.folder


def test_paths_start_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, config = load_task_config(["recipe=quickstart", "trainer.default_local_dir=out"])
    assert config.trainer.default_local_dir == f"{tmp_path}/out"
    assert config.evaluation.model_path is None


def test_a_first_policy_is_a_folder_that_is_to_come(tmp_path: Path) -> None:
    config = load_in(tmp_path, "recipe=quickstart", "cold_start.folder=work/policy")
    assert config.actor_rollout_ref.model.path == f"{tmp_path}/work/policy"


OWN = {"name": "A", "model": "a", "completion_price": 1.0}
NEEDED: dict[type, dict[str, Any]] = {
    LLMConfig: OWN,
    PoolConfig: {"name": "mine", "llms": [LLMConfig(**OWN)]},
}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *(own for own in marked_fields(RouterConfig) if own[0].__module__.startswith("router_r1")),
        *marked_fields(RouterArguments, ServerConfig),
    ],
)
def test_a_number_of_the_routers_out_of_its_range_is_refused(schema: type, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be .*, got -1"):
        schema(**{**NEEDED.get(schema, {}), name: -1})


def test_a_wrong_key_is_named_before_anything_is_imported_that_takes_seconds() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "verl.trainer.main_ppo"]
    wrong = ["recipe=quickstart", "trainer.total_step=3"]
    done = subprocess.run([*command, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown config key 'trainer.total_step'" in done.stdout + done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "router_r1.surroundings" in imported
    assert not {"torch", "transformers"} & imported
