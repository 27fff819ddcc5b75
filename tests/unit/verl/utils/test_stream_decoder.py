"""Text of ids that come one by one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router_r1.world.cold_start.tokenizer import build_tokenizer
from verl.utils.stream_decoder import StreamDecoder

TOKENIZER: Any = build_tokenizer(["Who is the director of x?", "user\nassistant\n\n"])
VOCABULARY = len(TOKENIZER)


def pieces_of(ids: list[int], sizes: list[int]) -> list[str]:
    """What a decoder gives for ``ids`` that come in groups of the given sizes."""
    decoder = StreamDecoder(TOKENIZER.decode)
    pieces, rest = [], list(ids)
    for size in [*sizes, len(ids)]:
        group, rest = rest[:size], rest[size:]
        pieces.append(decoder.push(group))
    return [*pieces, decoder.flush()]


@settings(max_examples=200, deadline=None)
@given(st.text(), st.lists(st.integers(0, 4), max_size=30))
def test_no_piece_ends_within_a_character(text: str, sizes: list[int]) -> None:
    text = text.replace("\ufffd", "?").replace("<|", "<")
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    pieces = pieces_of(ids, sizes)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, VOCABULARY - 1), max_size=40), st.lists(st.integers(0, 4), max_size=30)
)
def test_any_ids_come_out_as_the_decoded_whole(ids: list[int], sizes: list[int]) -> None:
    assert "".join(pieces_of(ids, sizes)) == TOKENIZER.decode(ids)


def test_a_character_of_four_tokens_comes_at_once() -> None:
    ids = TOKENIZER.encode("a\U0001f600b", add_special_tokens=False)
    assert len(ids) == 6
    decoder = StreamDecoder(TOKENIZER.decode)
    assert [decoder.push([i]) for i in ids] == ["a", "", "", "", "\U0001f600", "b"]
    assert decoder.flush() == ""
