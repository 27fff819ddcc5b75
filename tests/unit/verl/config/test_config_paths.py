from __future__ import annotations

from pathlib import Path

import pytest

from router_r1.config import RouterConfig
from verl.config.paths import make_paths_absolute
from verl.config.sft import SFTConfig, SFTDataConfig
from verl.config.validation import to_dataclass
from verl.trainer.launch import compose_config, load_task_config


def load(root: Path, *overrides: str) -> RouterConfig:
    config = to_dataclass(compose_config("ppo_trainer", overrides), RouterConfig)
    make_paths_absolute(config, root)
    return config


def test_every_path_that_a_worker_may_see_is_absolute(tmp_path: Path) -> None:
    config = load(tmp_path, "recipe=quickstart", "pool.recording.path=calls.sqlite")
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


def test_a_model_is_a_folder_where_there_is_one_else_a_hub_name(tmp_path: Path) -> None:
    model = "actor_rollout_ref.model.path"
    assert load(tmp_path).actor_rollout_ref.model.path == "Qwen/Qwen2.5-3B-Instruct"
    (tmp_path / "Qwen" / "Qwen2.5-3B-Instruct").mkdir(parents=True)
    found = load(tmp_path).actor_rollout_ref.model.path
    assert found == f"{tmp_path}/Qwen/Qwen2.5-3B-Instruct"
    assert load(tmp_path, f"{model}=./absent").actor_rollout_ref.model.path == f"{tmp_path}/absent"
    assert load(tmp_path, f"{model}=../absent").actor_rollout_ref.model.path == str(
        tmp_path.parent / "absent"
    )
    home = load(tmp_path, f"{model}='~/absent'").actor_rollout_ref.model.path
    assert home == str(Path.home() / "absent")
    to_come = load(tmp_path, "recipe=quickstart", "cold_start.folder=work/policy")
    assert to_come.actor_rollout_ref.model.path == f"{tmp_path}/work/policy"


def test_paths_start_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, config = load_task_config(["recipe=quickstart", "trainer.default_local_dir=out"])
    assert config.trainer.default_local_dir == f"{tmp_path}/out"
    assert config.evaluation.model_path is None


def test_fine_tuning_has_paths_too(tmp_path: Path) -> None:
    config = SFTConfig(data=SFTDataConfig(train_files=["chats.parquet", "/more.parquet"]))
    config.model.path, config.trainer.output_dir = "./base", "tuned"
    make_paths_absolute(config, tmp_path)
    assert (config.model.path, config.trainer.output_dir) == (
        f"{tmp_path}/base",
        f"{tmp_path}/tuned",
    )
    assert config.data.train_files == [f"{tmp_path}/chats.parquet", "/more.parquet"]
