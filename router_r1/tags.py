"""The tags that a trajectory's text is made of.

The policy thinks in ``<think>``, asks in the routing tag, reads replies in ``<information>`` and
answers in ``<answer>``. What the routing tag is called is a setting; all else is the same with
either name.

Guarantees: a block is a tag, the nearest closing tag of its name and what stands between them; the
pieces that :class:`SectionReader` gives do not depend on how the text was cut into deltas, but for
their number, and none shows a tag in part; neutralised text holds nothing that reads like a tag or
a chat control token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

from verl.config.validation import require_choice
from verl.utils import control_tokens

ROUTE_TAGS = ("search", "route")
THINK, SEARCH, INFORMATION, ANSWER = KINDS = ("think", "search", "information", "answer")
INFORMATION_OPEN, INFORMATION_CLOSE = "\n\n<information>", "</information>\n\n"

_CONTROL_CHARACTER = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_OPENED_THOUGHT = re.compile(r"<think>\s*\Z")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A complete pair of tags and the text between them; ``kind`` is one of :data:`KINDS`, the
    routing tag's is ``search``, whatever its name; ``start`` and ``end`` are those of the block,
    tags included, in the text it stands in."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Tags:
    """The four tags; ``route`` names the one that asks an LLM: one of :data:`ROUTE_TAGS`, else a
    :class:`ConfigError` is raised."""

    route: str = "search"

    def __post_init__(self) -> None:
        require_choice("route_tag", self.route, ROUTE_TAGS)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of :data:`KINDS`."""
        return (THINK, self.route, INFORMATION, ANSWER)

    @cached_property
    def literals(self) -> tuple[str, ...]:
        """Opening and closing tags."""
        return tuple(f"<{slash}{name}>" for name in self.names for slash in ("", "/"))

    @cached_property
    def stop_strings(self) -> tuple[str, ...]:
        """What ends a turn of the policy; kept in its text."""
        return (f"</{self.route}>", f"</{ANSWER}>")

    def kind(self, name: str) -> str:
        """The kind of the tag of that name."""
        return SEARCH if name == self.route else name

    def blocks(self, text: str) -> list[Block]:
        """All blocks, in order; a block inside another one is not looked for."""
        return [self._block(match) for match in _pairs(self.names).finditer(text)]

    def action(self, text: str) -> Block | None:
        """The first block that asks or answers; None if there is none."""
        match = _pairs((self.route, ANSWER)).search(text)
        return None if match is None else self._block(match)

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """Every tag; groups are the slash of a closing one ("" else) and its name."""
        return re.finditer(rf"<(/?)({'|'.join(self.names)})>", text)

    def are_paired(self, text: str) -> bool:
        """Whether each tag opens as often as it closes."""
        return all(text.count(f"<{name}>") == text.count(f"</{name}>") for name in self.names)

    def cut_after_stop(self, text: str) -> str:
        """``text`` up to and with its first stop string: a turn's last token may carry more."""
        ends = [text.find(stop) + len(stop) for stop in self.stop_strings if stop in text]
        return text[: min(ends)] if ends else text

    def neutralise(self, reply: str, controls: tuple[str, ...] = ()) -> tuple[str, int]:
        """Takes the power out of tags and control tokens in a reply; gives the harmless text, and
        how many of them there were.

        Angle brackets of the four tags and of ``<|…|>`` become round ones; the tokenizer's own
        control tokens (``controls``, e.g. ``</s>``) go the same way; control characters other than
        tab and newline are dropped.
        """
        text = _CONTROL_CHARACTER.sub("", reply)
        names = "|".join(self.names)
        # Two patterns of spaces side by side would share a run of spaces in as many ways as it has.
        tag_like = re.compile(rf"<(\s*(?:/\s*)?(?:{names})\b[^>]{{0,64}})>", re.IGNORECASE)
        count = 0
        while True:  # replacing one can bring another into being
            text, tags = tag_like.subn(r"(\1)", text)
            text, disarmed = control_tokens.disarm(text, controls)
            if not tags + disarmed:
                return text, count
            count += tags + disarmed

    def _block(self, match: re.Match[str]) -> Block:
        return Block(self.kind(match.group(1)), match.group(2), match.start(), match.end())


DEFAULT_TAGS = Tags()


@cache
def _pairs(names: tuple[str, ...]) -> re.Pattern[str]:
    """Complete pairs of the tags of these names."""
    return re.compile(rf"<({'|'.join(names)})>(.*?)</\1>", re.DOTALL)


def extract_answer(text: str) -> str | None:
    """The last answer block's content, stripped; None if there is none."""
    matches = _ANSWER.findall(text)
    return matches[-1].strip() if matches else None


def opened_thought(prompt: str) -> str:
    """The ``<think>`` with which a chat template's generation prompt ends; "" if it does not.

    It counts as the policy's own. A think block that the template also closes does not: it is
    empty, and a policy that has to think writes another.
    """
    match = _OPENED_THOUGHT.search(prompt)
    return match.group() if match else ""


class SectionReader:
    """Splits streamed text at the tags; ``section`` is the kind of the block in which the text
    stands, "" outside."""

    def __init__(self, tags: Tags = DEFAULT_TAGS) -> None:
        self.section = ""
        self._tags = tags
        self._held = ""

    def push(self, delta: str) -> Iterator[tuple[str, str]]:
        """(section, text) pieces without the tags; what may be a tag's beginning is held back."""
        text = self._held + delta
        position = 0
        for tag in self._tags.find(text):
            yield from self._piece(text[position : tag.start()])
            self.section = "" if tag.group(1) else self._tags.kind(tag.group(2))
            position = tag.end()
        rest = text[position:]
        keep = len(rest) - self._partial_tag_length(rest)
        self._held = rest[keep:]
        yield from self._piece(rest[:keep])

    def end(self) -> Iterator[tuple[str, str]]:
        """What was held back; the next text starts outside of any block."""
        held, self._held = self._held, ""
        yield from self._piece(held)
        self.section = ""

    def _piece(self, text: str) -> Iterator[tuple[str, str]]:
        if text:
            yield self.section, text

    def _partial_tag_length(self, text: str) -> int:
        """Length of the longest proper beginning of a tag that ``text`` ends with."""
        start = text.rfind("<")
        if start < 0:
            return 0
        tail = text[start:]
        return len(tail) if any(tag.startswith(tail) for tag in self._tags.literals) else 0
