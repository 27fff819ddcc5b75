"""What pytest and ``tests/scheduling.py`` want of the files of tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.scheduling import GROUPS, LONGEST

NAMES = Counter(path.stem for path in Path(__file__).parents[1].rglob("test_*.py"))


def test_each_file_has_a_name_of_its_own() -> None:
    """There are no packages: pytest would take one of two for the other, and refuse it."""
    assert [name for name, count in NAMES.items() if count > 1] == []


def test_what_is_scheduled_is_there() -> None:
    scheduled = {*LONGEST, *(file for files in GROUPS.values() for file in files)}
    assert scheduled - NAMES.keys() == set()
