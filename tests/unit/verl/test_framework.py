"""The framework knows nothing of the agent that the repository trains with it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_ROUTING = re.compile(r"\brout|search|LLM name|dollar|\bEM\b|\bF1\b|question", re.IGNORECASE)


def test_no_word_of_routing_stands_in_the_framework() -> None:
    files = [ROOT / "configs" / "ppo.yaml", *sorted((ROOT / "verl").rglob("*.py"))]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if _ROUTING.search(line)
    ]
    assert not found


def test_workers_do_not_import_the_trainer() -> None:
    importing = re.compile(r"^\s*(?:from|import) verl\.(?:trainer|task)\b", re.MULTILINE)
    for path in (ROOT / "verl" / "workers").rglob("*.py"):
        assert not importing.search(path.read_text(encoding="utf-8")), path
