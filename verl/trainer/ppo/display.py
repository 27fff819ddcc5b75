"""What the terminal shows while training: a progress bar and one readable line a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from verl.columns import Column
from verl.trajectory import Trajectory
from verl.utils.console import console, progress_bar

_ENTROPY = Column("entropy", "entropy", step_metric="actor/entropy")


class TrainingDisplay:
    """What a run of ``total_steps`` shows, ``done`` of which are an earlier process's.

    Attributes:
        bar: is shown while it is entered, around the training loop.
    """

    def __init__(self, total_steps: int, columns: Sequence[Column], done: int = 0) -> None:
        self._columns = columns
        self._total_steps = total_steps
        self.bar = progress_bar()
        self._task = self.bar.add_task("training", total=total_steps, completed=done)

    def show_step(
        self, step: int, metrics: dict[str, float], totals: Sequence[str], seconds: float
    ) -> None:
        """Prints the step's line, ``totals`` at its end, and moves the bar."""
        parts = [f"reward {metrics['critic/score/mean']:6.3f}"]
        for column in (*self._columns, _ENTROPY):
            if column.step_metric in metrics:
                parts.append(column.show(metrics[column.step_metric]))
        self._show(step, "  ".join([*parts, *totals, f"{seconds:4.1f} s"]))

    def show_skipped(self, step: int, reason: str) -> None:
        """Prints that a step had nothing to learn from and why, and moves the bar."""
        self._show(step, f"no update: {reason}")

    def _show(self, step: int, text: str) -> None:
        width = len(str(self._total_steps))
        line = f"step {step:{width}d}/{self._total_steps}  {text}"
        console.print(line, highlight=False, soft_wrap=True)
        self.bar.update(self._task, completed=step)

    @contextmanager
    def validation(self, rows: int) -> Iterator[Callable[[Trajectory], None]]:
        """A second bar while validating; yields what to call per finished trajectory."""
        task = self.bar.add_task("validating", total=rows)

        def advance(_: Trajectory) -> None:
            self.bar.advance(task)

        try:
            yield advance
        finally:
            self.bar.remove_task(task)

    def show_validation(
        self, step: int, metrics: dict[str, float], totals: Sequence[str], seconds: float
    ) -> None:
        """Prints one line with the means over all sources, ``totals`` at its end."""
        means = [
            f"{name.split('/')[2]} {value:.3f}"
            for name, value in metrics.items()
            if name.endswith("/all")
        ]
        text = "  ".join([*means, *totals, f"{seconds:4.1f} s"])
        title = f"[bold]validation after {step} steps[/]"
        console.print(f"{title}  {text}", highlight=False, soft_wrap=True)
