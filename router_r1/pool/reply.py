"""From the body of a successful response to text and bill.

Guarantees: any bytes give a typed :class:`Reply`, in time linear in their number; counts of tokens
are plausible numbers >= 0.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router_r1.pool.ending import Ending, ending_of
from router_r1.pool.outcome import Outcome
from router_r1.pool.reasoning import Said, read_message
from router_r1.pool.refusal import error_in_list, find_error
from router_r1.pool.streaming import is_stream, join_stream

LONGEST_BODY_BYTES = 32 * 2**20
# Nobody bills that many tokens for one call.
_IMPLAUSIBLE_TOKENS = 100_000_000
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Reply:
    """What a body says.

    Attributes:
        outcome: OK, EMPTY, MALFORMED, or SERVER_ERROR with the ``error`` found in it.
        text: of an OK one, without its reasoning.
        prompt_tokens, completion_tokens: as billed; see :mod:`router_r1.pool.outcome`.
        usage_estimated: whether one of them is our own count.
        error: what the body holds instead of a completion.
        ending: why the endpoint ended the text.
    """

    outcome: Outcome
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_estimated: bool = False
    error: Any = None
    ending: Ending = Ending.UNSTATED


def estimate_tokens(text: str) -> int:
    """About four bytes a token, for where no tokenizer is at hand."""
    return (len(text.encode(errors="replace")) + 3) // 4


def read_reply(
    content: bytes, charset: str | None, prompt: str, count_tokens: Callable[[str], int]
) -> Reply:
    """The reply in a body, whatever its content type and encoding claim to be.

    Args:
        charset: that the content type names, used where the body is not UTF-8.
        prompt: what was asked, to count where the body does not say what it bills.
        count_tokens: tokens of a text.
    """
    try:
        body = _parse(_unpacked(content), charset)
    except (ValueError, LookupError, RecursionError, OSError, EOFError, zlib.error):
        return Reply(Outcome.MALFORMED)
    body = error_in_list(body) or body
    if not isinstance(body, dict):
        return Reply(Outcome.MALFORMED)
    billed = _billed(body.get("usage"))
    prompt_tokens, completion_tokens = billed
    stated = (prompt_tokens or 0, completion_tokens or 0)
    error = find_error(body)
    if error is not None:
        return Reply(Outcome.SERVER_ERROR, "", *stated, error=error)
    try:
        choice = body["choices"][0]
        said = read_message(choice["message"])
    except (LookupError, TypeError, AttributeError, RecursionError):
        return Reply(Outcome.MALFORMED, "", *stated)
    if prompt_tokens is None:
        prompt_tokens = count_tokens(prompt)
    if completion_tokens is None:
        completion_tokens = count_tokens(_whole(said))
    return Reply(
        Outcome.OK if said.text.strip() else Outcome.EMPTY,
        said.text if said.text.strip() else "",
        prompt_tokens,
        completion_tokens,
        usage_estimated=None in billed,
        ending=ending_of(choice.get("finish_reason")),
    )


def _unpacked(content: bytes) -> bytes:
    """The body, unpacked if its first bytes are gzip's, whatever its headers say."""
    if not content.startswith(_GZIP_MAGIC):
        return content
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return file.read(LONGEST_BODY_BYTES)


def _parse(content: bytes, charset: str | None) -> Any:
    if is_stream(content):
        return join_stream(_decode(content, charset))
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        return json.loads(_decode(content, charset))


def _decode(content: bytes, charset: str | None) -> str:
    """UTF-8 if it is, else as the content type says, else with marks for what cannot be read."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        known = codecs.lookup(charset).name if charset else "utf-8"
        return content.decode(known, errors="replace")


def _whole(said: Said) -> str:
    return f"{said.reasoning}\n{said.text}" if said.reasoning else said.text


def _billed(usage: Any) -> tuple[int | None, int | None]:
    """Tokens of prompt and completion as far as they are stated.

    Some endpoints leave reasoning out of the completion and count it in the total alone: all of
    the total but the prompt is what the completion cost.
    """
    if not isinstance(usage, dict):
        return None, None
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    total = _count(usage.get("total_tokens"))
    if prompt is not None and completion is not None and total is not None:
        completion = max(completion, total - prompt)
    return prompt, completion


def _count(value: Any) -> int | None:
    """A token count that can be one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _IMPLAUSIBLE_TOKENS else None
