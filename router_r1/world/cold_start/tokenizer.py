"""The tiny policy's tokenizer: every word of the world is one token, any other text is bytes.

Guarantees: ``decode(encode(text)) == text`` for any text without the chat control tokens; words,
tags and LLM names of the world are single tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from router_r1.tags import Tags

PAD, END_OF_TEXT, TURN_START, TURN_END = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TAG = re.compile(r"</?\w+>")
_PIECE = re.compile(r"\n+| ?\w+| ?[^\w\s]")


def build_tokenizer(texts: Iterable[str], tags: Tags) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with one added token for each tag, and for each word of ``texts`` with
    the space before it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = (PAD, END_OF_TEXT, TURN_START, TURN_END)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    parts = (part for text in texts for part in _TAG.split(text))
    pieces = {piece for part in parts for piece in _PIECE.findall(part)}
    # One-byte pieces are in the base vocabulary already.
    words = [*tags.literals, *sorted(piece for piece in pieces if len(piece.encode()) > 1)]
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
