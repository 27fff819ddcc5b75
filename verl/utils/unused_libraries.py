"""What transformers and vLLM import, where it is installed, for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import import_utils


@contextmanager
def not_found(name: str) -> Iterator[None]:
    """An import of the library fails in the block, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name, None)


def leave_out_unused_libraries() -> None:
    """Lets transformers, in this process, take scikit-learn and scipy for absent.

    For assisted generation and losses of object detection, which are not used here, its automatic
    classes would import them, with pandas, at each start of a driver, a rank or an inline engine.
    Our own code can import them all the same. Is to be called before the first of these classes is
    imported.
    """
    with not_found("sklearn"), not_found("scipy"):
        for is_available in (import_utils.is_sklearn_available, import_utils.is_scipy_available):
            is_available.cache_clear()  # transformers may have asked already
            is_available()
