"""The collector looks less often in a process that imports the framework."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import verl  # noqa: F401  (what it does on import is tested)
from verl.utils.garbage import collect_rarely

RARELY = gc.get_threshold()[0]


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_an_import_is_enough() -> None:
    assert RARELY == 50_000


@pytest.mark.parametrize(("before", "after"), [(700, 50_000), (0, 0), (90_000, 90_000)])
def test_the_threshold_is_only_raised(before: int, after: int) -> None:
    gc.set_threshold(before, 5, 6)
    collect_rarely()
    assert gc.get_threshold() == (after, 5, 6)
