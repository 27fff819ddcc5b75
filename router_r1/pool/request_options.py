"""What one LLM's endpoint wants otherwise in a request than the standard has it; and keys, which
people have in their environment with newlines, spaces, or an ellipsis in them.

Guarantees: options cannot change what the pool file says elsewhere (model, messages, temperature,
max_tokens), nor multiply what a call costs; a secret cannot stand in them, only the name of the
environment variable that holds it; no message holds any part of a key but the one character that is
wrong with it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any

from verl.config.validation import ConfigError
from verl.errors import UserError

SAMPLING_FIELDS = ("temperature", "top_p", "seed", "max_tokens")
STREAM_OPTIONS = "stream_options"
KEYS_ELSEWHERE = {
    "model": "model",
    "messages": "instruction",
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens (and request.rename)",
    "stream": "request.stream",
    "stream_options": "request.stream",
    "n": "n_agent or the evaluation's n_samples",
    "best_of": "n_agent or the evaluation's n_samples",
}
_KEYS_SENT = ("model", "messages", "stream", "stream_options", "n")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADERS_OF_THE_BODY = ("content-length", "content-type", "content-encoding", "transfer-encoding")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)


class PoolKeyError(UserError):
    """A key or header that cannot be sent."""


@dataclass
class RequestOptions:
    """Changes to the requests of one LLM.

    Attributes:
        extra_body: fields to set: further ones, or ``seed`` and ``top_p`` to other values.
        rename: sampling fields that have another name there, e.g. ``max_tokens`` to
            ``max_completion_tokens``.
        omit: sampling fields, or ``stream_options``, to leave out. Without the latter most
            endpoints do not say what a streamed reply costs; it is estimated then.
        extra_headers: further headers.
        extra_headers_env: headers whose values are secret: name to environment variable.
        stream: ask for the reply in pieces; for endpoints that give no other.
    """

    extra_body: dict[str, Any] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    omit: list[str] = field(default_factory=list)
    extra_headers: dict[str, str] = field(default_factory=dict)
    extra_headers_env: dict[str, str] = field(default_factory=dict)
    stream: bool = False

    def __post_init__(self) -> None:
        for name in self.extra_body:
            if name in KEYS_ELSEWHERE:
                raise ConfigError(
                    f"request.extra_body cannot set {name!r}; use {KEYS_ELSEWHERE[name]}"
                )
        try:
            json.dumps(self.extra_body, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"request.extra_body cannot be sent as JSON: {error}") from error
        for key, names, allowed in (
            ("rename", self.rename, SAMPLING_FIELDS),
            ("omit", self.omit, (*SAMPLING_FIELDS, STREAM_OPTIONS)),
        ):
            if wrong := sorted(set(names) - set(allowed)):
                raise ConfigError(
                    f"request.{key} names {', '.join(wrong)}; it can name: {', '.join(allowed)}"
                )
        if both := sorted(set(self.omit) & {*self.rename, *self.extra_body}):
            raise ConfigError(f"request.omit leaves {', '.join(both)} out, but it is also set")
        names = [*self.rename.values(), *self.extra_body]
        taken = [name for name in names if names.count(name) > 1]
        taken += [n for n in self.rename.values() if n in (*_KEYS_SENT, *SAMPLING_FIELDS) or not n]
        if taken:
            raise ConfigError(f"request.rename gives a name that is taken: {taken[0]!r}")
        for name in (*self.extra_headers, *self.extra_headers_env):
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _HEADERS_OF_THE_BODY:
                raise ConfigError(f"{name!r} cannot be the name of a further header")
        for name, value in self.extra_headers.items():
            if _SECRET_HEADER.search(name):
                raise ConfigError(
                    f"request.extra_headers: {name} looks like a secret; put it into an "
                    "environment variable and name that in request.extra_headers_env"
                )
            _stripped(value, f"request.extra_headers: the value of {name}")

    def parameters(self, sampling: dict[str, Any]) -> dict[str, Any]:
        """The fields of the body beside model and messages; ``sampling`` are the standard's, by the
        names in ``SAMPLING_FIELDS``."""
        kept = {
            self.rename.get(name, name): self.extra_body.get(name, value)
            for name, value in sampling.items()
            if name not in self.omit
        }
        return kept | {k: v for k, v in self.extra_body.items() if k not in sampling}

    def stream_fields(self) -> dict[str, Any]:
        """The fields of the body that say in which form a reply comes."""
        if not self.stream:
            return {}
        usage = {} if STREAM_OPTIONS in self.omit else {STREAM_OPTIONS: {"include_usage": True}}
        return {"stream": True, **usage}

    def secret_headers(self) -> dict[str, str]:
        """The headers of ``extra_headers_env`` with their values; raises :class:`PoolKeyError` if a
        variable is not set or cannot be a header."""
        headers = {}
        for name, variable in self.extra_headers_env.items():
            value = _stripped(os.environ.get(variable, ""), f"the key in ${variable}")
            if not value:
                raise PoolKeyError(f"the header {name} needs its value in ${variable}; it is unset")
            headers[name] = value
        return headers


def read_key(value: str | None, place: str) -> str | None:
    """The key without space around it, None if there is none; raises :class:`PoolKeyError`, naming
    ``place``, if it holds a character that a header cannot, or a space."""
    advice = "; set it anew, without line breaks and not from a shortened display"
    return _stripped(value or "", f"the key in {place}", lowest="!", advice=advice) or None


def _stripped(value: str, place: str, lowest: str = " ", advice: str = "") -> str:
    """A header's value without space around it, of characters from ``lowest`` to "~"."""
    text = value.strip()
    if wrong := next((character for character in text if not lowest <= character <= "~"), None):
        raise PoolKeyError(
            f"{place} holds a character that a header cannot: U+{ord(wrong):04X}{advice}"
        )
    return text
