"""What a task reports of each trajectory, and where it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A number that the reward function gives of every trajectory.

    Attributes:
        key: its name among the reward function's metrics; "reward" is the reward itself.
        title: as people read it.
        validation: a validation reports it as ``val/test_score/{validation}/{data_source}``; None
            for not at all.
        step_metric: the metric of a training step that is its mean, shown on the step's line; None
            for not there.
        form: how the step's line writes it, a format of :meth:`str.format`.
        repeated: it is 0 or 1, and an evaluation with k samples a prompt reports ``pass@k`` and
            ``avg@k`` of it.
    """

    key: str
    title: str
    validation: str | None = None
    step_metric: str | None = None
    form: str = "{:.3f}"
    repeated: bool = False

    def show(self, value: float) -> str:
        """Title and value, for the step's line."""
        return f"{self.title} {self.form.format(value)}"


REWARD = Column("reward", "reward", validation="reward")
METRIC = Column("metric", "metric", validation="metric", step_metric="critic/metric/mean")


def repeated_column(columns: Sequence[Column]) -> str | None:
    """Key of the column that ``pass@k`` is taken of; None if no column is."""
    return next((column.key for column in columns if column.repeated), None)
