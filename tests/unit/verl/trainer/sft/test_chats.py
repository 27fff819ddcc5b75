"""Chats become the ids that a rollout would have, with each assistant's turn learned once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.templates import CHAT_TEMPLATE, THINKING_TEMPLATE, MakeTokenizer
from verl.config.sft import SFTConfig, SFTDataConfig
from verl.config.validation import ConfigError, to_dataclass
from verl.trainer.launch import compose_config
from verl.trainer.sft.examples import ChatExamples, encode_chat, settle
from verl.utils.chat_template import ChatTemplate
from verl.utils.dataset import DataError

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who?"},
    {"role": "assistant", "content": "<think>hm</think> Ada."},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "1815"},
]
# Leaves earlier thoughts out, as reasoning models' templates do.
FORGETFUL_TEMPLATE = CHAT_TEMPLATE.replace(
    "message['content']", "message['content'].split('</think>')[-1]"
)


def learned(example: dict[str, list[int]], tokenizer: Any) -> list[str]:
    """The runs of learned tokens, as text."""
    runs: list[list[int]] = []
    previous = 0
    for token, mask in zip(example["input_ids"], example["loss_mask"], strict=True):
        if mask and not previous:
            runs.append([])
        if mask:
            runs[-1].append(token)
        previous = mask
    return [tokenizer.decode(run) for run in runs]


def test_every_assistants_turn_is_learned_with_the_token_that_ends_it(tokenizer: Any) -> None:
    (example,) = encode_chat(ChatTemplate(tokenizer), CHAT)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert tokenizer.decode(example["input_ids"]) == text.removesuffix("\n")
    assert learned(example, tokenizer) == ["<think>hm</think> Ada.<|im_end|>", "1815<|im_end|>"]


def test_ids_are_those_of_a_rollout(tokenizer: Any) -> None:
    """The prompt is encoded as for a generation, and what is sampled by itself."""
    template = ChatTemplate(tokenizer)
    (example,) = encode_chat(template, CHAT[:3])
    prompt = list(template.render(CHAT[:2]).token_ids)
    sampled = tokenizer.encode("<think>hm</think> Ada.<|im_end|>", add_special_tokens=False)
    assert example == {
        "input_ids": prompt + sampled,
        "loss_mask": [0] * len(prompt) + [1] * len(sampled),
    }


def test_a_template_that_forgets_thoughts_makes_an_example_a_turn(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(FORGETFUL_TEMPLATE)
    first, second = encode_chat(ChatTemplate(tokenizer), CHAT)
    assert learned(first, tokenizer) == ["<think>hm</think> Ada.<|im_end|>"]
    assert learned(second, tokenizer) == ["1815<|im_end|>"]
    assert "hm" not in tokenizer.decode(second["input_ids"]), "as at inference"


def test_a_thought_that_the_template_opens_is_not_opened_twice(
    make_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = make_tokenizer(THINKING_TEMPLATE)
    (example,) = encode_chat(ChatTemplate(tokenizer), CHAT[:3])
    assert learned(example, tokenizer) == ["hm</think> Ada.<|im_end|>"]
    assert tokenizer.decode(example["input_ids"]).count("<think>") == 1


def test_control_tokens_that_somebody_typed_end_no_turn(tokenizer: Any) -> None:
    typed = [CHAT[1], {"role": "assistant", "content": "a<|im_end|>b"}]
    (example,) = encode_chat(ChatTemplate(tokenizer), typed)
    assert learned(example, tokenizer) == ["a(|im_end|)b<|im_end|>"]


def write(path: Path, chats: list[Any]) -> str:
    pd.DataFrame({"messages": chats}).to_parquet(path)
    return str(path)


def numbered(folder: Path, count: int) -> str:
    chats = [[CHAT[1], {"role": "assistant", "content": f"x{i}"}] for i in range(count)]
    return write(folder / "numbered.parquet", chats)


def test_epochs_follow_each_other_without_a_gap(tokenizer: Any, tmp_path: Path) -> None:
    file, config = numbered(tmp_path, 7), SFTDataConfig()
    examples = ChatExamples([file], ChatTemplate(tokenizer), config, seed=1)
    assert examples.steps(epochs=2, batch_size=4) == 4
    seen = [str(e["input_ids"]) for step in range(4) for e in examples.sample_batch(step, 4)]
    every = sorted(str(e["input_ids"]) for e in examples.examples)
    assert sorted(seen[:7]) == sorted(seen[7:14]) == every
    assert seen[:7] != seen[7:14], "each epoch in an order of its own"
    again = ChatExamples([file], ChatTemplate(tokenizer), config, seed=1)
    assert [str(e["input_ids"]) for e in again.sample_batch(2, 4)] == seen[8:12]


def test_rows_that_cannot_be_learned_are_named(tokenizer: Any, tmp_path: Path) -> None:
    template = ChatTemplate(tokenizer)
    file = write(tmp_path / "chats.parquet", [CHAT[:2], CHAT[2:], CHAT])
    with pytest.raises(DataError, match=r"2 rows of .*row 0: .*nothing to learn; row 1: .*begins"):
        ChatExamples([file], template, SFTDataConfig(), 0)
    fine = write(tmp_path / "fine.parquet", [CHAT, CHAT[:3]])
    length = len(encode_chat(template, CHAT[:3])[0]["input_ids"])
    with pytest.raises(
        DataError, match=rf"row 0 has \d+ tokens, more than data.max_length={length}"
    ):
        ChatExamples([fine], template, SFTDataConfig(max_length=length), 0)
    lenient = SFTDataConfig(max_length=length, drop_overlong=True)
    kept = ChatExamples([fine], template, lenient, 0)
    assert (len(kept.examples), kept.dropped) == (1, 1)
    other = SFTDataConfig(messages_key="chat")
    with pytest.raises(DataError, match="lacks the columns chat"):
        ChatExamples([fine], template, other, 0)


def configured(*overrides: str) -> SFTConfig:
    given = ["model.path=nowhere", "trainer.output_dir=/tmp/out", *overrides]
    return to_dataclass(compose_config("sft_trainer", given), SFTConfig)


def test_the_configuration_says_how_long_and_on_what(policy_folder: Path, tmp_path: Path) -> None:
    file = numbered(tmp_path, 7)
    config = configured(
        f"model.path={policy_folder}", f"data.train_files=[{file}]", "trainer.epochs=3"
    )
    config.trainer.batch_size = 4
    settle(config)
    assert config.total_steps == 6
    assert config.trainer.run_dir == "/tmp/out_run"
    assert configured("data.target=some.Class").total_steps == 300


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "either data.train_files.*or data.target"),
        (["data.train_files=[a]", "data.target=b"], "either data.train_files"),
        (["data.target=b", "trainer.epochs=2"], "are for data.train_files"),
        (["data.train_files=[a]", "trainer.epochs=2", "trainer.steps=9"], "both say how long"),
        (
            ["data.train_files=[a]", "trainer.save_freq=2", "trainer.run_dir=null"],
            "trainer.run_dir",
        ),
        (["data.train_files=[a]", "trainer.resume=maybe"], "trainer.resume='maybe'"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(*overrides)
