"""The one way a file or folder is written.

Guarantees: a reader finds the old content, the new, or nothing, never a part; a writer that fails
leaves the old content and nothing beside it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to; at the end of the block it takes ``path``'s place.

    It lies beside ``path``, whose folder is made, is hidden, and has the same suffix, by which
    libraries choose a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    _remove(temporary)  # of a process that was killed, with our number
    try:
        yield temporary
        if temporary.is_dir():
            _remove(path)  # a folder is no target of os.replace unless it is empty
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Writes ``path`` as UTF-8; ``errors`` is that of :meth:`pathlib.Path.write_text`."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
