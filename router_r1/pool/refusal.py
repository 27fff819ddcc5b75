"""What an endpoint says when it does not answer: its status, its words, when to come back.

Many gateways put the error of the server behind them into a reply with status 200; its status is
found in the body.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from router_r1.pool.outcome import Outcome

_RETRIED = (408, 409, 425, 429)
_INVALID = (400, 413, 422)
_SERVER_ERROR = 500
_STATUS = re.compile(r"(?<!\d)([45]\d\d)(?!\d)")
_STATUS_KEYS = ("code", "status", "status_code", "statusCode", "http_status", "type")
_WORD_KEYS = ("message", "msg", "detail", "error_msg", "error_description", "title", "reason")
# Words of error codes and messages; the first that is found tells the status.
_STATUS_WORDS = (
    (402, ("insufficient quota", "insufficient balance", "insufficient credit", "billing")),
    (429, ("rate limit", "ratelimit", "too many requests", "resource exhausted", "throttl")),
    (401, ("api key", "apikey", "unauthori", "unauthenticated", "authentication", "credential")),
    (403, ("permission", "forbidden", "access denied")),
    (413, ("context length", "context window", "too large")),
    (404, ("not found", "does not exist", "no such model", "unknown model")),
    (503, ("overloaded", "unavailable", "capacity")),
    (504, ("timeout", "timed out", "deadline exceeded")),
    (400, ("invalid request", "invalid argument", "bad request", "unsupported", "validation")),
)
_QUOTA_WORDS = _STATUS_WORDS[0][1]
_RETRY_AFTER_KEYS = ("retryafter", "retrydelay", "retryafterseconds", "retryafters")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|seconds)?", re.IGNORECASE)
_LONGEST_WORDS = 400
_DEEPEST = 6
_LONGEST_LIST = 8


def find_error(body: dict[str, Any]) -> Any:
    """The error in a body, or None: under ``error`` or ``errors``, in the first choice, or the
    body itself if it says that it is one."""
    if error := body.get("error") or body.get("errors"):
        return error
    choices = body.get("choices")
    if choices:
        first = choices[0] if isinstance(choices, list) else None
        return (first.get("error") or None) if isinstance(first, dict) else None
    says_so = body.get("object") == "error" or body.get("type") == "error"
    worded = any(isinstance(body.get(name), str | list) for name in _WORD_KEYS)
    coded = any(_status_in(body.get(name)) for name in _STATUS_KEYS)
    return body if says_so or worded or coded else None


def error_in_list(body: Any) -> dict[str, Any] | None:
    """The first object in a list that holds an error (Gemini's way to send one); else None."""
    items = body[:_LONGEST_LIST] if isinstance(body, list) else []
    return next((i for i in items if isinstance(i, dict) and find_error(i) is not None), None)


def status_of_error(error: Any) -> int:
    """The HTTP status that an error in a body stands for: what it names, else what its words mean,
    else 500."""
    values = error if isinstance(error, dict) else {"message": error}
    for name in _STATUS_KEYS:
        if status := _status_in(values.get(name)):
            return status
    named = " ".join(str(values[name]) for name in _STATUS_KEYS if values.get(name))
    for text in (named, words_of(error)):
        plain = re.sub(r"[_\-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)).lower()
        for status, words in _STATUS_WORDS:
            if any(word in plain for word in words):
                return status
    return _SERVER_ERROR


def _status_in(value: Any) -> int | None:
    if isinstance(value, int) and 400 <= value <= 599:
        return int(value)
    found = _STATUS.search(value[:_LONGEST_WORDS]) if isinstance(value, str) else None
    return int(found.group(1)) if found else None


def words_of(value: Any) -> str:
    """What a body or an error says in words; on one line, cut."""
    return " ".join(" ".join(_words(value, _DEEPEST)).split())[:_LONGEST_WORDS]


def _words(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for item in value[:_LONGEST_LIST]:
            yield from _words(item, depth - 1)
    elif isinstance(value, dict) and depth:
        if isinstance(value.get("loc"), list):  # FastAPI names the field of a complaint so
            yield ".".join(str(place) for place in value["loc"][:8]) + ":"
        for name in ("error", "errors", *_WORD_KEYS, "param", "code", "type"):
            if value.get(name):
                yield from _words(value[name], depth - 1)
        metadata = value.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
            yield metadata["raw"]  # OpenRouter: the words of the provider behind it


def parse_body(content: bytes) -> Any:
    """The body of an error: JSON if it is, else its text; None if empty."""
    text = content[:65536].decode(errors="replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return re.sub(r"<[^<>]{0,200}>", " ", text) or None


def outcome_of_status(status: int, words: str, pause_s: float) -> tuple[Outcome, bool]:
    """How a call with this status ends, and whether the same request may succeed later.

    No waiting mends an empty purse; but some endpoints speak of billing at every limit of theirs
    (Gemini), and say with it when to come back.
    """
    plain = words.lower().replace("_", " ")
    if status == 429:
        if not pause_s and any(word in plain for word in _QUOTA_WORDS):
            return Outcome.REFUSED, False
        return Outcome.RATE_LIMITED, True
    if status in _RETRIED or status >= 500:
        return Outcome.SERVER_ERROR, True
    return (Outcome.INVALID_QUERY if status in _INVALID else Outcome.REFUSED), False


def pause_of(headers: Mapping[str, str], error: Any) -> float:
    """Seconds that the endpoint asks us to wait, by its headers or the error in the body."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if "retry-after" in headers:
        return parse_retry_after(headers["retry-after"])
    return max(_pauses(error, _DEEPEST), default=0.0)


def _pauses(value: Any, depth: int) -> Iterator[float]:
    if isinstance(value, list) and depth:
        for item in value[:_LONGEST_LIST]:
            yield from _pauses(item, depth - 1)
    if not isinstance(value, dict) or not depth:
        return
    for name, item in value.items():
        plain = str(name).lower().replace("-", "").replace("_", "")
        number = _number(item) if plain.startswith("retry") else None
        if number is not None and plain == "retryafterms":
            yield number / 1000
        elif number is not None and plain in _RETRY_AFTER_KEYS:
            yield number
        else:
            yield from _pauses(item, depth - 1)


def _number(value: Any) -> float | None:
    """A finite number >= 0, or a text of one, with its unit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = value.strip() if isinstance(value, str) else repr(value)
    found = _SECONDS.fullmatch(text[:32])
    if found is None:
        return None
    number, unit = found.groups("")
    return float(number) / (1000 if unit.lower() == "ms" else 1)


def parse_retry_after(value: str | None) -> float:
    """Seconds from a ``Retry-After`` header: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if seconds == seconds else 0.0
