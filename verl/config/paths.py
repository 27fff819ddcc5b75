"""Paths of a configuration mean what they mean where the command is given.

A dataclass marks its fields: ``PATH`` for a file or folder, or a list of them, ``MODEL`` for a
folder or a hub name.
Worker processes run in a folder of Ray's choosing, on a cluster that of ``ray start``: after
:func:`make_paths_absolute` no marked path depends on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_KIND: Final = "path"
PATH: Final = {_KIND: "path"}
MODEL: Final = {_KIND: "model"}


def make_paths_absolute(config: Any, root: Path | None = None) -> None:
    """Rewrites every marked path in ``config``, a dataclass, as absolute, from ``root`` or the
    working folder; ``~`` is the home folder.

    A model is a folder if there is one of that name, if it is written as a path (``/``, ``./``,
    ``~``), or if it is a path of this configuration that the run has yet to make; else it is a hub
    name and stays as it is.
    """
    root = root or Path.cwd()
    marked = list(_marked(config))
    own = {value for _, _, kind, value in marked if kind == PATH[_KIND] and isinstance(value, str)}
    for owner, name, kind, value in marked:
        if isinstance(value, list):
            setattr(owner, name, [str(root / Path(item).expanduser()) for item in value])
            continue
        absolute = root / Path(value).expanduser()
        if kind == PATH[_KIND] or value in own or value[0] in "/.~" or absolute.is_dir():
            setattr(owner, name, str(absolute.resolve() if ".." in value else absolute))


def _marked(config: Any) -> Iterator[tuple[Any, str, str, str]]:
    """(dataclass, field, kind, value) of every marked field that is set, at any depth."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind = field.metadata.get(_KIND)
        if kind is not None and value:
            yield config, field.name, kind, value
            continue
        for part in value if isinstance(value, list) else [value]:
            if dataclasses.is_dataclass(part):
                yield from _marked(part)
