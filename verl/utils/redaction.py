"""Keeps secrets out of what a run writes."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "***"
_SECRET_KEY = re.compile(r"(.*_)?(api_key|token|secret|password|authorization)", re.IGNORECASE)

_URL_USER = re.compile(r"(\w://)[^/@\s]+@")
_URL_KEY = re.compile(r"([?&][\w\-]*(?:key|token|secret|password|sig)=)[^&#\s]+", re.IGNORECASE)


def redact_override(override: str) -> str:
    """A Hydra override without its value, if the key is a secret's."""
    key, separator, value = override.partition("=")
    name = key.lstrip("+~").rsplit(".", 1)[-1]
    return f"{key}={REDACTED}" if separator and value and _SECRET_KEY.fullmatch(name) else override


def is_secret_name(name: str) -> bool:
    """Whether a field of a URL's query holds a secret."""
    return _URL_KEY.match(f"?{name}=x") is not None


def redact(value: Any) -> Any:
    """A copy of nested dicts and lists in which every value under a secret's key is ``***``, and
    so are user and password of every URL and the keys in its query."""
    if isinstance(value, dict):
        return {
            key: REDACTED if _SECRET_KEY.fullmatch(str(key)) and item else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    if isinstance(value, str):
        return _URL_KEY.sub(rf"\1{REDACTED}", _URL_USER.sub(rf"\1{REDACTED}@", value))
    return value
