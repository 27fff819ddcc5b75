"""What a model's generation config may hold, and what becomes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError
from verl.utils.generation_config import end_of_turn_ids, make_savable, repair_generation_config
from verl.workers.rollout.hf_engine import HFEngine
from verl.workers.rollout.vllm_replica import ReplicaSettings


def model_with(policy_folder: Path, target: Path, content: Any) -> str:
    """A copy of the policy with this generation_config.json; None is without one."""
    shutil.copytree(policy_folder, target)
    path = target / "generation_config.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(json.dumps(content))
    return str(target)


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        ({"do_sample": False, "temperature": 0.7, "eos_token_id": [1, 2]}, ["temperature"]),
        ({"do_sample": False, "top_p": 0.8, "top_k": 20}, ["top_p", "top_k"]),
        ({"output_scores": True}, ["output_scores"]),
        ({"pad_token_id": -1}, ["pad_token_id"]),
        ({"temperature": "warm"}, ["temperature"]),
    ],
)
def test_a_config_that_could_not_be_saved_is_repaired_at_loading(
    policy_folder: Path,
    tmp_path: Path,
    content: dict[str, Any],
    changed: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = model_with(policy_folder, tmp_path / "model", content)
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        model.save_pretrained(tmp_path / "before")
    repair_generation_config(model)
    assert all(name in caplog.text for name in changed)
    model.save_pretrained(tmp_path / "after")
    saved = GenerationConfig.from_pretrained(tmp_path / "after")
    assert saved.eos_token_id == content.get("eos_token_id")
    assert make_savable(saved) == []


def test_a_sound_config_is_left_alone() -> None:
    config = GenerationConfig(do_sample=True, temperature=0.7, top_k=20, eos_token_id=[1, 2])
    before = config.to_dict()
    assert make_savable(config) == []
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"max_new_tokens": 0},
            "must be greater than 0.*; correct the file or remove it",
        ),
        ({"num_return_sequences": 5}, "num_return_sequences"),
        ({"watermarking_config": {"a": 1}}, "unexpected keyword"),
        ([1], "not a mapping"),
        ({"eos_token_id": "x"}, "eos_token_id must be an id or a list of ids, got 'x'"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused_before_an_engine_starts(
    policy_folder: Path, tmp_path: Path, content: Any, words: str
) -> None:
    path = model_with(policy_folder, tmp_path / "model", content)
    with pytest.raises(ConfigError, match=rf"generation_config\.json of .*{words}"):
        ReplicaSettings.from_config(RolloutConfig(), path, "cpu", 64, 0, sleep=False)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"eos_token_id": [258, 259]}, (257, 258, 259)),
        ({"eos_token_id": 259}, (257, 259)),
        ({"eos_token_id": [259, 10**6]}, (257, 259)),
        ({}, (257,)),
        (None, (257,)),
    ],
)
def test_both_engines_stop_at_the_same_ids(
    policy_folder: Path, tmp_path: Path, content: Any, expected: tuple[int, ...]
) -> None:
    path = model_with(policy_folder, tmp_path / "model", content)
    assert end_of_turn_ids(path, AutoTokenizer.from_pretrained(path)) == expected
    settings = ReplicaSettings.from_config(RolloutConfig(), path, "cpu", 64, 0, sleep=False)
    engine = HFEngine(path, "cpu", "float32", 64)
    assert set(settings.end_ids) == engine._end_ids == set(expected)
