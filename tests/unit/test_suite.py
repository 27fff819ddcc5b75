"""What pytest, ``tests/scheduling.py`` and the layers want of the files of tests."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.scheduling import GROUPS, LONGEST

TESTS = Path(__file__).parents[1]
NAMES = Counter(path.stem for path in TESTS.rglob("test_*.py"))


def test_each_file_has_a_name_of_its_own() -> None:
    """There are no packages: pytest would take one of two for the other, and refuse it."""
    assert [name for name, count in NAMES.items() if count > 1] == []


def test_what_is_scheduled_is_there() -> None:
    scheduled = {*LONGEST, *(file for files in GROUPS.values() for file in files)}
    assert scheduled - NAMES.keys() == set()


def test_tests_of_the_framework_import_nothing_of_the_agent() -> None:
    importing = re.compile(r"^\s*(?:from|import) router_r1\b", re.MULTILINE)
    files = list((TESTS / "unit" / "verl").rglob("*.py"))
    assert files
    assert [path.name for path in files if importing.search(path.read_text("utf-8"))] == []
