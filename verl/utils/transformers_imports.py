"""What transformers imports, where it is installed, for nothing."""

from __future__ import annotations

import sys

from transformers.utils import import_utils

_NAME = "sklearn"


def leave_out_scikit_learn() -> None:
    """Lets transformers, in this process, take scikit-learn for absent.

    For assisted generation, which is not used here, its automatic classes would import it, with
    scipy and pandas: 600 modules at each start of a rank or an engine. Whoever needs scikit-learn
    can import it all the same. Is to be called before the first of these classes is imported;
    afterwards it changes nothing.
    """
    if _NAME in sys.modules:
        return
    sys.modules[_NAME] = None  # type: ignore[assignment]  # so it is not found
    try:
        import_utils.is_sklearn_available()  # remembers what it finds
    finally:
        del sys.modules[_NAME]
