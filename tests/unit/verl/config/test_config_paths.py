from __future__ import annotations

from pathlib import Path

from verl.config.paths import make_paths_absolute
from verl.config.ppo import PPOConfig
from verl.config.sft import SFTConfig, SFTDataConfig
from verl.config.validation import to_dataclass
from verl.trainer.launch import compose_config


def load(root: Path, path: str) -> PPOConfig:
    values = ("task._target_=some.Task", "data.train_files=[a]", "data.val_files=[b]")
    model = f"actor_rollout_ref.model.path={path}"
    config = to_dataclass(compose_config("ppo", [*values, model]), PPOConfig)
    make_paths_absolute(config, root)
    return config


def test_a_model_is_a_folder_where_there_is_one_else_a_hub_name(tmp_path: Path) -> None:
    def found(path: str) -> str:
        return load(tmp_path, path).actor_rollout_ref.model.path

    assert found("Qwen/Qwen2.5-3B-Instruct") == "Qwen/Qwen2.5-3B-Instruct"
    (tmp_path / "Qwen" / "Qwen2.5-3B-Instruct").mkdir(parents=True)
    assert found("Qwen/Qwen2.5-3B-Instruct") == f"{tmp_path}/Qwen/Qwen2.5-3B-Instruct"
    assert found("./absent") == f"{tmp_path}/absent"
    assert found("../absent") == str(tmp_path.parent / "absent")
    assert found("'~/absent'") == str(Path.home() / "absent")


def test_the_files_and_folders_of_a_run_are_absolute(tmp_path: Path) -> None:
    config = load(tmp_path, "./model")
    assert config.critic.model.path == f"{tmp_path}/model"
    assert config.trainer.default_local_dir == f"{tmp_path}/outputs/ppo"


def test_fine_tuning_has_paths_too(tmp_path: Path) -> None:
    config = SFTConfig(data=SFTDataConfig(train_files=["chats.parquet", "/more.parquet"]))
    config.model.path, config.trainer.output_dir = "./base", "tuned"
    make_paths_absolute(config, tmp_path)
    assert (config.model.path, config.trainer.output_dir) == (
        f"{tmp_path}/base",
        f"{tmp_path}/tuned",
    )
    assert config.data.train_files == [f"{tmp_path}/chats.parquet", "/more.parquet"]
