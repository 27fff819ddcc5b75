"""Text of ids that come one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from verl.utils.stream_decoder import StreamDecoder

TOKENIZER = ByteLevelBPETokenizer()
TOKENIZER.train_from_iterator(["Who is the director of x?"] * 2, show_progress=False)
VOCABULARY = TOKENIZER.get_vocab_size()


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
    text = text.replace("\ufffd", "?")
    ids = TOKENIZER.encode(text).ids
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
    ids = TOKENIZER.encode("a\U0001f600b").ids
    assert len(ids) == 6
    decoder = StreamDecoder(TOKENIZER.decode)
    assert [decoder.push([i]) for i in ids] == ["a", "", "", "", "\U0001f600", "b"]
    assert decoder.flush() == ""
