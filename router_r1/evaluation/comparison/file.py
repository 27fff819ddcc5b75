"""``comparison.json``: what a comparison leaves for the report, and for anyone else.

Guarantees: the file is there whole or not at all; what is read equals what was written.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from verl.errors import UserError


class EvaluationFileError(UserError):
    """A file of the evaluation that cannot be used."""


@dataclass(frozen=True)
class ComparisonRow:
    """One router of ``comparison.json``; figures are means per question.

    Attributes:
        kind: random, single, learned, fusion, retrieval, prompt, router or oracle.
        cost: completion tokens x $ per 1M tokens.
        em_low, em_high: 95% interval of ``em``, None where it is computed, not measured.
        by_source: the same figures (em, f1, cost, dollars, calls) by dataset.
    """

    name: str
    kind: str
    em: float
    f1: float
    cost: float
    dollars: float
    calls: float
    em_low: float | None = None
    em_high: float | None = None
    by_source: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ComparisonPoint:
    """A router trained with one cost coefficient.

    ``cost_change``, with its 95% interval, is against the point before it; the first has none.
    """

    cost_coe: float
    em: float
    cost: float
    dollars: float
    calls: float
    cost_change: float | None = None
    cost_change_low: float | None = None
    cost_change_high: float | None = None


@dataclass(frozen=True)
class ComparisonFile:
    """``comparison.json``."""

    title: str
    rows: list[ComparisonRow]
    sweep: list[ComparisonPoint]


def write_comparison_file(path: Path, comparison: ComparisonFile) -> None:
    """Writes it; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(asdict(comparison), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_comparison(path: Path) -> ComparisonFile | None:
    """What was written; None if there is no file.

    Raises:
        EvaluationFileError: if it holds something else.
    """
    content = read_json_object(path)
    if content is None:
        return None
    try:
        return ComparisonFile(
            title=content["title"],
            rows=[ComparisonRow(**row) for row in content["rows"]],
            sweep=[ComparisonPoint(**point) for point in content["sweep"]],
        )
    except (KeyError, TypeError) as error:
        raise EvaluationFileError(
            f"{path} is no comparison ({error}); python -m router_r1.evaluation.compare writes it"
        ) from error


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if there is no file.

    Raises:
        EvaluationFileError: if it holds something else.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationFileError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise EvaluationFileError(f"{path} must hold a JSON object")
    return content
