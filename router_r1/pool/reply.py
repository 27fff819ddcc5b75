"""From the body of a successful response to text and bill.

Guarantees: any bytes give a typed :class:`~router_r1.pool.outcome.Attempt`, in time linear in their
number; counts of tokens are plausible numbers >= 0.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

from router_r1.pool.outcome import Attempt, Outcome
from router_r1.pool.reasoning import read_message
from router_r1.pool.refusal import error_in_list, find_error
from router_r1.pool.streaming import is_stream, join_stream

LONGEST_BODY_BYTES = 32 * 2**20
# Nobody bills that many tokens for one call.
_IMPLAUSIBLE_TOKENS = 100_000_000
_GZIP_MAGIC = b"\x1f\x8b"
# Finish reasons, what they mean for a reply without text, and what to do about it. OpenAI's names
# come first; gateways pass on those of the provider behind them.
_MORE_TOKENS = "reasoning may need more than max_tokens={}: raise it, or ask for less reasoning"
_ENDINGS = (
    (("length", "max_tokens", "max_output_tokens"), "the reply ended at max_tokens", _MORE_TOKENS),
    (
        (
            *("content_filter", "safety", "recitation", "blocklist", "prohibited_content"),
            *("refusal", "sensitive"),
        ),
        "a content filter of the endpoint withheld the reply",
        "loosen the filter at the endpoint, or take another LLM",
    ),
    (
        ("tool_calls", "function_call", "tool_use"),
        "the reply calls a tool and says nothing",
        "a call offers no tools: take them out of request.extra_body and the endpoint's own "
        "settings",
    ),
    (
        ("stop", "end_turn", "stop_sequence", "eos"),
        "the LLM ended its reply without saying anything",
        "it was not cut: look at its model name, chat template and request.extra_body",
    ),
)


def estimate_tokens(text: str) -> int:
    """About four bytes a token, for where no tokenizer is at hand."""
    return (len(text.encode(errors="replace")) + 3) // 4


def read_reply(
    content: bytes,
    charset: str | None,
    prompt: str,
    max_tokens: int,
    count_tokens: Callable[[str], int],
) -> Attempt:
    """The reply in a body, whatever its content type and encoding claim to be: OK, EMPTY,
    MALFORMED, or SERVER_ERROR with the ``error`` found in it.

    Args:
        charset: that the content type names, used where the body is not UTF-8.
        prompt: what was asked, to count where the body does not say what it bills.
        max_tokens: that were asked for, to advise on an empty reply.
        count_tokens: tokens of a text.
    """
    try:
        body = _parse(content, charset)
    except (ValueError, LookupError, RecursionError, OSError, EOFError, zlib.error):
        return Attempt(Outcome.MALFORMED)
    body = error_in_list(body) or body
    if not isinstance(body, dict):
        return Attempt(Outcome.MALFORMED)
    billed = _billed(body.get("usage"))
    prompt_tokens, completion_tokens = billed
    stated = (prompt_tokens or 0, completion_tokens or 0)
    error = find_error(body)
    if error is not None:
        return Attempt(Outcome.SERVER_ERROR, "", *stated, error=error)
    try:
        choice = body["choices"][0]
        said = read_message(choice["message"])
    except (LookupError, TypeError, AttributeError, RecursionError):
        return Attempt(Outcome.MALFORMED, "", *stated)
    if prompt_tokens is None:
        prompt_tokens = count_tokens(prompt)
    if completion_tokens is None:
        whole = f"{said.reasoning}\n{said.text}" if said.reasoning else said.text
        completion_tokens = count_tokens(whole)
    bill = (prompt_tokens, completion_tokens, None in billed)
    if said.text.strip():
        return Attempt(Outcome.OK, said.text, *bill)
    happened, advice = _explain_empty(choice.get("finish_reason"), max_tokens)
    detail = f"{happened}; {completion_tokens} tokens were billed"
    return Attempt(Outcome.EMPTY, "", *bill, detail=detail, advice=advice)


def _explain_empty(finish_reason: Any, max_tokens: int) -> tuple[str, str]:
    """What happened to a reply without text, and what to change so that one has."""
    name = finish_reason.lower() if isinstance(finish_reason, str) else ""
    for names, happened, advice in _ENDINGS:
        if name in names:
            return happened, advice.format(max_tokens)
    return "the reply holds no text", _MORE_TOKENS.format(max_tokens)


def _parse(content: bytes, charset: str | None) -> Any:
    if content.startswith(_GZIP_MAGIC):  # whatever its headers say
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            content = file.read(LONGEST_BODY_BYTES)
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
