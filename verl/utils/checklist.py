"""One line of a check: what is there, what is needed, and what to change.

Guarantees: whoever checks something, framework or task, reports it in this form, so that a user
reads one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

GIB = 1024.0**3


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    NOT_OK = "not ok"
    UNKNOWN = "could not tell"


@dataclass(frozen=True)
class CheckLine:
    """The result of one check.

    Attributes:
        subject: what was looked at.
        found: what is there.
        needed: what the run needs; empty where that is obvious.
        advice: the key or thing to change; empty where nothing is to be done.
    """

    subject: str
    verdict: Verdict
    found: str
    needed: str = ""
    advice: str = ""


def failures(lines: Iterable[CheckLine]) -> list[CheckLine]:
    """The lines that say that the run cannot work."""
    return [line for line in lines if line.verdict is Verdict.NOT_OK]


def decide(enough: bool, subject: str, found: str, needed: str = "", advice: str = "") -> CheckLine:
    """Ok or not ok; ``advice`` is given where it is not."""
    if enough:
        return CheckLine(subject, Verdict.OK, found, needed)
    return CheckLine(subject, Verdict.NOT_OK, found, needed, advice)


def compare_bytes(
    subject: str,
    have: float | None,
    need: float,
    advice: str,
    most: float | None = None,
    tolerance: float = 1.0,
) -> CheckLine:
    """Whether ``need`` bytes fit into ``have``: ok, not ok, or too close to tell.

    Args:
        have: None where it is not known.
        advice: what to change; given where they may not fit.
        most: ``need`` is an estimate and may be as much as this; they fit if there is room for it.
        tolerance: they do not fit if there is no room for ``need / tolerance``.
    """
    needed = gib(need)
    if have is None:
        return CheckLine(subject, Verdict.UNKNOWN, "not known", needed)
    fits = (most or need) <= have
    if fits or need > tolerance * have:
        return decide(fits, subject, gib(have), needed, advice)
    return CheckLine(subject, Verdict.UNKNOWN, f"{gib(have)}: close", needed, advice)


def gib(size: float) -> str:
    """Bytes for people: "155 GiB", "23.8 GiB", "12 MiB"."""
    value = size / GIB
    if value < 0.1:
        return f"{1024 * value:.0f} MiB"
    return f"{value:.0f} GiB" if value >= 100 else f"{value:.1f} GiB"
