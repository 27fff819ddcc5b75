"""Loading and saving: every rank gets the checkpoint's values, only rank 0 sees a whole copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from tests.integration.engine_worker import EngineWorker
from tests.integration.test_weight_sync import untie
from verl.config.model import ModelConfig
from verl.single_controller.resource_pool import RayResourcePool
from verl.single_controller.worker_group import RayClassWithInit, RayWorkerGroup

pytestmark = pytest.mark.usefixtures("ray_session")
Models = dict[str, tuple[Path, Any]]


def model_config(folder: Path) -> ModelConfig:
    return ModelConfig(
        path=str(folder),
        dtype="float32",
        use_remove_padding=False,
        enable_gradient_checkpointing=False,
    )


def start(ranks: int, **folders: Path) -> RayWorkerGroup:
    roles = {
        name: RayClassWithInit(EngineWorker, model_config(folder))
        for name, folder in folders.items()
    }
    return RayWorkerGroup(RayResourcePool([ranks]), roles)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 300 MB, no tensor of which has more than a tenth."""
    folder = tmp_path_factory.mktemp("large")
    config = Qwen2Config(
        vocab_size=7000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=5,
        num_attention_heads=16,
        num_key_value_heads=16,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def test_loading_and_saving_hold_no_whole_copy_on_other_ranks(large: Path, tmp_path: Path) -> None:
    whole = size(large)
    assert whole > 280e6
    group = start(2, model=large)
    try:
        loading = group["model"].memory_of_loading()
        saving = group["model"].save(str(tmp_path / "saved"), 60_000_000)
    finally:
        group.shutdown()
    assert loading[0] > whole, "rank 0 reads it: the measurement sees a whole copy"
    assert loading[1] < 0.8 * whole, "half of the model stays, as this rank's shards"
    assert saving[1] < 0.5 * whole
    assert saving[0] < 0.8 * whole, "rank 0 holds one file at a time"
    assert size(tmp_path / "saved") >= whole


@pytest.fixture(scope="module")
def models(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folders = {
        "tied": policy_folder,
        "untied": untie(policy_folder, tmp_path_factory.mktemp("untied") / "policy"),
    }
    group = start(3, **folders)  # most tensors do not split into three equal parts
    yield {name: (folder, group[name]) for name, folder in folders.items()}
    group.shutdown()


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_every_rank_has_the_checkpoints_values_and_steps_as_one_process_would(
    name: str, models: Models, tmp_path: Path
) -> None:
    folder, model = models[name]
    for fused, difference in model.step_against_a_plain_loop():
        assert fused
        assert difference < 1e-6
    assert model.differences() == [[], [], []]
    assert model.differences_when_offloaded() == [[], [], []]
    model.save(str(tmp_path / "several"), 1_000_000)
    model.save(str(tmp_path / "one"), 10**9)
    before = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for saved in (tmp_path / "several", tmp_path / "one"):
        after = AutoModelForCausalLM.from_pretrained(saved).state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert AutoTokenizer.from_pretrained(saved).chat_template
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert [file.name for file in (tmp_path / "one").glob("model*")] == ["model.safetensors"]
    index = json.loads((tmp_path / "several" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "several" / file)
