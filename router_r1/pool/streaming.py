"""Streamed replies (server-sent events) put together to the completion they stand for."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from router_r1.pool.refusal import error_in_list, find_error

_STREAM_START = re.compile(rb"\s*(?:data|event|id|retry)?:")
_LONGEST_START = 256
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
# Longest piece of an end marker that can stand before a chunk.
_MARKER_BYTES = 16
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal")


def is_stream(content: bytes | bytearray) -> bool:
    """Whether a body is a stream of events, whatever its content type says."""
    return _STREAM_START.match(content, 0, _LONGEST_START) is not None


def has_ended(received: bytearray, fresh: int) -> bool:
    """Whether the end marker, after which some servers keep the connection open, is in the last
    ``fresh`` bytes of a stream."""
    return _DONE.search(received, max(0, len(received) - fresh - _MARKER_BYTES)) is not None


def join_stream(text: str) -> dict[str, Any]:
    """The completion whose first choice was streamed; or the error that ended it, with the usage
    stated until then. To break off without end marker, finish reason or usage is such an error.

    Raises:
        ValueError: if an event is not JSON, or none is part of a completion.
    """
    pieces: defaultdict[str, list[Any]] = defaultdict(list)
    choice: dict[str, Any] = {}
    usage: Any = None
    for data in _events(text):
        event = json.loads(data)
        event = error_in_list(event) or event
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        usage = event.get("usage") or usage
        if find_error(event) is not None:
            return {**event, "usage": usage}
        choices = event.get("choices")
        for part in choices if isinstance(choices, list) else []:
            if not isinstance(part, dict) or part.get("index"):
                continue
            choice.update({name: value for name, value in part.items() if value is not None})
            delta = part.get("delta") or part.get("message")
            if isinstance(delta, dict):
                for name in _TEXT_FIELDS:
                    if delta.get(name):
                        pieces[name].append(delta[name])
    if not choice:
        raise ValueError("a stream without a completion")
    if not (usage or choice.get("finish_reason") or _DONE.search(text.encode(errors="replace"))):
        return {"error": {"code": 502, "message": "the stream broke off"}}
    message = {name: _joined(texts) for name, texts in pieces.items()}
    return {"choices": [{**choice, "message": message}], "usage": usage}


def _events(text: str) -> Iterator[str]:
    """The data of each event before the end marker; comments keep a connection alive."""
    lines: list[str] = []
    for line in (*re.split(r"\r\n|\n|\r", text), ""):
        field, _, value = line.partition(":")
        if field == "data":
            lines.append(value.removeprefix(" "))
        elif not line and lines:
            data = "\n".join(lines)
            lines.clear()
            if data.strip() == "[DONE]":
                return
            yield data


def _joined(pieces: list[Any]) -> Any:
    """One text of texts; one list of parts if any piece is made of parts."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return [part for piece in pieces for part in (piece if isinstance(piece, list) else [piece])]
