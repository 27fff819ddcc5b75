"""The fields of a configuration that have a range of their own."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any


def marked_fields(*schemas: type) -> list[Any]:
    """(dataclass, field) of each, in ``schemas`` and in the dataclasses below them."""
    return [
        (schema, field.name)
        for schema in dict.fromkeys(one for root in schemas for one in _below(root))
        for field in dataclasses.fields(schema)
        if "range" in field.metadata
    ]


def _below(hint: Any) -> Iterator[Any]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from _below(inner)
    for inner in typing.get_args(hint):
        yield from _below(inner)
