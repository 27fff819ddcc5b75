"""Examples of supervised fine-tuning: token ids, and which of them are learned.

Guarantees of chats: each of an assistant's turns is learned exactly once, from the very ids that a
rollout would have: the prompt as the chat template renders it for generation, then what the policy
writes, with the token that ends a turn, encoded by itself. Where a later prompt does not begin with
what was written (a template that leaves earlier thoughts out), the chat becomes several examples.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from hydra.utils import get_class
from jinja2 import TemplateError

from verl.config.sft import SFTConfig, SFTDataConfig
from verl.utils.chat_template import ChatTemplate
from verl.utils.dataset import DataError, load_tokenizer, read_rows
from verl.utils.rows import Messages, RowError, chat_messages

Example = dict[str, list[int]]
"""``input_ids``, and a ``loss_mask`` of equal length: 1 on what is learned."""

_SHOWN_FAULTS = 3


class ExampleSource(Protocol):
    """Gives every step's examples, as a pure function of the step."""

    def sample_batch(self, step: int, batch_size: int) -> list[Example]:
        """``batch_size`` examples of step number ``step``, which counts from 0."""
        ...


class ChatExamples:
    """Those of parquet files, in order or shuffled, epoch after epoch without a gap.

    Raises:
        DataError: for a file or row that cannot be used, naming it.
    """

    def __init__(
        self, files: Sequence[str], template: ChatTemplate, config: SFTDataConfig, seed: int
    ) -> None:
        self._seed, self._shuffle = seed, config.shuffle
        self.examples: list[Example] = []
        self.dropped = 0
        for file in files:
            self._add(file, template, config)
        if files and not self.examples:
            raise DataError(
                f"no example of {', '.join(files)} is left: all {self.dropped} are longer than "
                f"data.max_length={config.max_length} tokens"
            )
        self._order = functools.lru_cache(maxsize=2)(self._order_of_epoch)

    def _add(self, file: str, template: ChatTemplate, config: SFTDataConfig) -> None:
        faults = []
        for number, row in enumerate(read_rows(Path(file), (config.messages_key,))):
            try:
                examples = encode_chat(template, chat_messages(row, config.messages_key))
            except (RowError, TemplateError) as error:
                faults.append(f"row {number}: {error}")
                continue
            kept = [e for e in examples if len(e["input_ids"]) <= config.max_length]
            self.dropped += len(examples) - len(kept)
            if len(kept) < len(examples) and not config.drop_overlong:
                longest = max(len(e["input_ids"]) for e in examples)
                faults.append(
                    f"row {number} has {longest} tokens, more than data.max_length="
                    f"{config.max_length} (data.drop_overlong=true leaves it out)"
                )
            self.examples += kept
        if faults:
            more = "; …" if len(faults) > _SHOWN_FAULTS else ""
            raise DataError(
                f"{len(faults)} rows of {file} cannot be used (rows count from 0): "
                f"{'; '.join(faults[:_SHOWN_FAULTS])}{more}"
            )

    def steps(self, epochs: int, batch_size: int) -> int:
        """That take every example ``epochs`` times; the last is filled up from the next epoch."""
        return -(-epochs * len(self.examples) // batch_size)

    def sample_batch(self, step: int, batch_size: int) -> list[Example]:
        """See :class:`ExampleSource`."""
        count = len(self.examples)
        places = range(step * batch_size, (step + 1) * batch_size)
        return [self.examples[self._order(place // count)[place % count]] for place in places]

    def _order_of_epoch(self, epoch: int) -> np.ndarray:
        order = np.arange(len(self.examples))
        if self._shuffle:
            np.random.default_rng([self._seed, epoch]).shuffle(order)
        return order


def encode_chat(template: ChatTemplate, messages: Messages) -> list[Example]:
    """The examples of one chat; see the module's guarantees.

    Raises:
        RowError: if no assistant speaks in it, or one speaks first.
        jinja2.TemplateError: if the template refuses the messages.
    """
    examples: list[Example] = []
    known = ""  # the text that the newest example's ids stand for
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if number == 0:
            raise RowError("messages[0]", "is an assistant's; a chat begins with a prompt")
        prompt = template.render(messages[:number])
        if not known or not prompt.text.startswith(known):
            examples.append({"input_ids": [], "loss_mask": []})
            known = ""
        read = template.encode(prompt.text[len(known) :])
        reply = template.reply(prompt.text, message["content"])
        written = template.encode(reply)
        examples[-1]["input_ids"] += read + written
        examples[-1]["loss_mask"] += [0] * len(read) + [1] * len(written)
        known = prompt.text + reply
    if not examples:
        raise RowError("messages", "hold no assistant's message, so there is nothing to learn")
    return examples


def training_examples(config: SFTConfig) -> ExampleSource:
    """What the configuration names; raises :class:`DataError` for files that cannot be used."""
    if config.data.target is None:
        return _chats(config, config.data.train_files)
    made: ExampleSource = get_class(config.data.target)(**config.data.args)
    return made


def validation_examples(config: SFTConfig) -> list[Example]:
    """Those of ``data.val_files``; none without files."""
    return _chats(config, config.data.val_files).examples if config.data.val_files else []


def settle(config: SFTConfig) -> None:
    """Reads the files once, so that what is wrong with them is said before a process starts
    (:class:`DataError`), and sets ``trainer.steps``."""
    if config.data.target is not None:
        return
    examples, trainer = _chats(config, config.data.train_files), config.trainer
    validation_examples(config)
    if trainer.steps is None:
        trainer.steps = examples.steps(trainer.epochs or 1, trainer.batch_size)


def _chats(config: SFTConfig, files: Sequence[str]) -> ChatExamples:
    tokenizer = load_tokenizer(config.model.path)
    template = ChatTemplate(tokenizer, config.data.apply_chat_template_kwargs)
    return ChatExamples(files, template, config.data, config.trainer.seed)
