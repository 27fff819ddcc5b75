"""What the calls of one question may come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from router_r1.pool.outcome import CallResult, Outcome
from verl.config.validation import POSITIVE, Section

_NOT_SENT = (
    Outcome.UNKNOWN_LLM,
    Outcome.QUESTION_LIMIT,
    Outcome.BUDGET,
    Outcome.UNAVAILABLE,
    Outcome.NOT_RECORDED,
)


@dataclass
class QuestionLimit(Section, prefix="question_limit."):
    """Stated in the prompt, and kept by the loop: a call beyond it is not sent.

    The embedded world's cold start teaches the number of calls alone.

    Attributes:
        calls: at most so many calls; null for as many as there are turns.
        usd: what they may cost together, dollars: a call is sent only if the most that it may cost
            still fits; null for no limit.
    """

    calls: int | None = field(default=None, metadata=POSITIVE)
    usd: float | None = field(default=None, metadata=POSITIVE)

    @property
    def is_set(self) -> bool:
        """Whether there is anything to state and to keep."""
        return self.calls is not None or self.usd is not None

    def allows(self, earlier: Sequence[CallResult], most_usd: float) -> bool:
        """Whether one more call may be sent that may cost ``most_usd`` at most.

        Of the question's ``earlier`` calls, those that were not sent do not count.
        """
        made = sum(result.outcome not in _NOT_SENT for result in earlier)
        spent = sum(result.dollars for result in earlier)
        return (self.calls is None or made < self.calls) and (
            self.usd is None or spent + most_usd <= self.usd
        )
