"""Readers of a data row's fields.

Guarantees: a reader returns a value that everything downstream can use, or raises
:class:`RowError` with the field's path; whatever the file holds, it raises nothing else.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from verl.errors import UserError

Row = dict[str, Any]
Messages = list[dict[str, str]]

ROLES = ("system", "developer", "user", "assistant", "tool")
_TARGET = "reward_model.ground_truth.target"


class RowError(UserError):
    """A field that cannot be used: its path in the row, and what is wrong with its value."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")


def data_source(row: Mapping[str, Any]) -> str:
    """The benchmark that a row belongs to; part of metric names."""
    value = row.get("data_source")
    if not (isinstance(value, str) and value.strip() and value.isprintable()):
        raise RowError("data_source", f"must be a name in printable characters, got {shown(value)}")
    return value


def chat_messages(row: Mapping[str, Any], key: str) -> Messages:
    """The chat in column ``key``: at least one message, each with ``role`` and ``content``."""
    value = row.get(key)
    if not isinstance(value, list | tuple) or not value:
        raise RowError(key, f"must be a list of chat messages, got {shown(value)}")
    messages = []
    for i, message in enumerate(value):
        if not isinstance(message, Mapping):
            raise RowError(f"{key}[{i}]", f"must be a chat message, got {shown(message)}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise RowError(f"{key}[{i}].role", f"must be one of {ROLES}, got {shown(role)}")
        if not (isinstance(content, str) and content.strip()):
            raise RowError(f"{key}[{i}].content", f"must be a text, got {shown(content)}")
        messages.append({"role": role, "content": content})
    return messages


def extra_info(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """What else a row says about itself; empty where the column is absent or null."""
    value = row.get("extra_info")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise RowError("extra_info", f"must be an object with fields, got {shown(value)}")
    return value


def bare_prompt(row: Mapping[str, Any], name: str) -> str | None:
    """``extra_info.{name}``, what the user asks without any template around it; None if absent or
    blank. For ``name`` see :attr:`verl.trajectory.AgentRecord.prompt_name`."""
    value = extra_info(row).get(name)
    if value is not None and not isinstance(value, str):
        raise RowError(f"extra_info.{name}", f"must be a text, or absent; got {shown(value)}")
    return value if value and value.strip() else None


def ground_truth(row: Mapping[str, Any]) -> list[str]:
    """``reward_model.ground_truth.target`` as a list: one text, or a list of them; blanks in a
    list are left out."""
    value: Any = row
    path = ""
    for name in _TARGET.split("."):
        if not isinstance(value, Mapping):
            raise RowError(path, f"must be an object with {name!r} in it, got {shown(value)}")
        path = f"{path}.{name}".lstrip(".")
        value = value.get(name)
    texts = value if isinstance(value, list | tuple) else [value]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            place = f"{_TARGET}[{i}]" if texts is value else _TARGET
            raise RowError(place, f"must be a text (a number goes in quotes), got {shown(text)}")
    answers = [text for text in texts if text.strip()]
    if not answers:
        raise RowError(_TARGET, f"must hold at least one answer, got {shown(value)}")
    return answers


def shown(value: Any) -> str:
    """A value in an error message: shortened, with its type."""
    return "nothing" if value is None else f"{reprlib.repr(value)} ({type(value).__name__})"
