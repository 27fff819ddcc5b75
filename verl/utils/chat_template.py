"""From chat messages to the prompt that the policy reads.

Guarantees: training, length checks, evaluation and inference render alike; the ids are those of
``tokenizer.apply_chat_template(…, tokenize=True)``, so a BOS that the template writes comes once;
no message holds a control token.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from verl.config.validation import ConfigError
from verl.utils.control_tokens import disarm, turn_control_texts
from verl.utils.rows import Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPTIONS_KEY = "data.apply_chat_template_kwargs"
_OPENED_TAG = re.compile(r".*(<\w+>)(\s*)", re.DOTALL)
_PROBE = "what the assistant says"


@dataclass(frozen=True)
class RenderedChat:
    """A prompt: the template's output, up to and with the generation prompt, as text and as ids;
    and how many control tokens in the messages lost their power."""

    text: str
    token_ids: tuple[int, ...]
    neutralised: int


class ChatTemplate:
    """A tokenizer's chat template with the options of a run: variables of the template, such as
    ``enable_thinking``. One that the template does not read raises :class:`ConfigError`."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._options = dict(options or {})
        self._control_texts = turn_control_texts(tokenizer)
        reserved = inspect.signature(tokenizer.apply_chat_template).parameters
        for name in self._options:
            read = re.findall(r"\w+", str(tokenizer.get_chat_template()))
            if name in reserved or name not in read:
                raise ConfigError(
                    f"{_OPTIONS_KEY}.{name}: the chat template of {tokenizer.name_or_path} reads "
                    "no such variable, so it would change nothing; leave it out"
                )

    def render(self, messages: Sequence[Mapping[str, str]]) -> RenderedChat:
        """The prompt of a chat, ready for the policy to write on; raises
        :class:`jinja2.TemplateError` if the template refuses the messages."""
        text, neutralised = self.text(messages)
        return RenderedChat(text, tuple(self.encode(text)), neutralised)

    def encode(self, text: str) -> list[int]:
        """Ids of a part of a rendered chat, or of what the policy writes."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def reply(self, prompt: str, content: str) -> str:
        """What the policy writes on a rendered prompt to say ``content`` and end its turn.

        A tag that the prompt has opened already (``<think>``) is not written again; control tokens
        in the content lose their power.
        """
        harmless, _ = disarm(content, self._control_texts)
        opened = _OPENED_TAG.fullmatch(prompt)
        if opened and harmless.lstrip().startswith(opened[1]):
            harmless = harmless.lstrip().removeprefix(opened[1])
            if opened[2]:  # the white space after the tag is written as well
                harmless = harmless.lstrip()
        return harmless + self.turn_end

    @functools.cached_property
    def turn_end(self) -> str:
        """What the template writes right after an assistant's message: the policy ends its turn
        with it. The end of the text where the template writes nothing."""
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _PROBE}]
        try:
            text = self._tokenizer.apply_chat_template(chat, tokenize=False, **self._options)
        except TemplateError:
            text = ""
        end = str(text).rpartition(_PROBE)[2].strip()
        return end or str(self._tokenizer.eos_token or "")

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens of each rendered chat; as many as :meth:`encode` gives, and faster for many."""
        return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def text(self, messages: Sequence[Mapping[str, str]]) -> tuple[str, int]:
        """The prompt of a chat as text alone, and how many control tokens lost their power; raises
        as :meth:`render`."""
        harmless: Messages = []
        neutralised = 0
        for message in messages:
            content, count = disarm(message["content"], self._control_texts)
            harmless.append({**message, "content": content})
            neutralised += count
        text = self._tokenizer.apply_chat_template(
            harmless, tokenize=False, add_generation_prompt=True, **self._options
        )
        return str(text), neutralised
