"""Tokenizers with the chat templates of other models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from router_r1.world.cold_start.tokenizer import CHAT_TEMPLATE, END_OF_TEXT

MakeTokenizer = Callable[..., Any]

THINKING_TEMPLATE = CHAT_TEMPLATE + (
    "{% if add_generation_prompt %}"
    "{{ '<think>\n' if enable_thinking is not defined or enable_thinking else "
    "'<think>\n\n</think>\n\n' }}{% endif %}"
)
"""Opens the thought for the model, or closes it at once, as reasoning models' templates do."""


def tokenizer_maker(folder: Path) -> MakeTokenizer:
    """``make(template, adds_bos=False)``: the tokenizer of ``folder`` with another template; with
    ``adds_bos`` it puts a BOS before what it encodes."""

    def make(template: str, *, adds_bos: bool = False) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        if adds_bos:
            tokenizer.bos_token = END_OF_TEXT
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{END_OF_TEXT} $A",
                special_tokens=[(END_OF_TEXT, tokenizer.convert_tokens_to_ids(END_OF_TEXT))],
            )
        return tokenizer

    return make
