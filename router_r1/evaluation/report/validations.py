"""What changed from one validation of a run to the next: scores, answers, and who was asked.

Guarantees: questions are compared with themselves, by uid and sample; one that a validation lacks
counts in no comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from router_r1.evaluation.records import RoutedRecord
from router_r1.evaluation.report import headline
from router_r1.evaluation.report.markup import Markup, join, tag
from router_r1.evaluation.report.routing import llm_legend, shares_by_step, stacked_bars
from router_r1.evaluation.report.trajectories import called_llm, llm_names


@dataclass(frozen=True)
class Changes:
    """Questions that two validations answer differently.

    Attributes:
        became_right, became_wrong: by exact match.
        changed_llm: asked other LLMs, or in another order.
        questions: compared.
    """

    became_right: int
    became_wrong: int
    changed_llm: int
    questions: int


def changes(before: Sequence[RoutedRecord], after: Sequence[RoutedRecord]) -> Changes:
    """From one validation to another."""
    earlier = {record.key: record for record in before}
    pairs = [(earlier[record.key], record) for record in after if record.key in earlier]
    return Changes(
        became_right=sum(not _is_right(a) and _is_right(b) for a, b in pairs),
        became_wrong=sum(_is_right(a) and not _is_right(b) for a, b in pairs),
        changed_llm=sum(_asked(a) != _asked(b) for a, b in pairs),
        questions=len(pairs),
    )


def validations_section(by_step: dict[int, list[RoutedRecord]]) -> Markup:
    """A row a validation, what changed since the first, and whom each asked.

    Args:
        by_step: at least two validations, the first one first.
    """
    steps = list(by_step)
    first, last = by_step[steps[0]], by_step[steps[-1]]
    llms = llm_names([record for records in by_step.values() for record in records])
    return join(
        tag("div", headline.step_table(by_step), class_="scroll"),
        tag("p", _in_words(changes(first, last), steps[0], steps[-1]), class_="changes"),
        tag("h3", "Calls by validation"),
        llm_legend(llms),
        stacked_bars(shares_by_step(by_step), llms),
    )


def _in_words(found: Changes, first: int, last: int) -> Markup:
    return join(
        f"From step {first} to step {last}, of {found.questions:,} questions ",
        tag("b", f"{found.became_right:,} became right"),
        ", ",
        tag("b", f"{found.became_wrong:,} became wrong"),
        f", and {found.changed_llm:,} asked other LLMs.",
    )


def _is_right(record: RoutedRecord) -> bool:
    return record.scores.get("em", 0.0) >= 1


def _asked(record: RoutedRecord) -> list[str]:
    return [called_llm(call) for call in record.trajectory.calls]
