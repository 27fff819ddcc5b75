"""What the terminal shows while training: a progress bar and one readable line a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from verl.columns import Column
from verl.trajectory import Trajectory
from verl.utils.console import console, progress_bar

_ENTROPY = Column("entropy", "entropy", step_metric="actor/entropy")


class TrainingDisplay:
    """Use as a context manager around the training loop.

    Args:
        total_steps: length of the bar.
        columns: of the task.
        done: steps of the process before.
    """

    def __init__(self, total_steps: int, columns: Sequence[Column], done: int = 0) -> None:
        self._columns = columns
        self._total_steps = total_steps
        self._progress = progress_bar()
        self._task = self._progress.add_task("training", total=total_steps, completed=done)

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show_step(
        self, step: int, metrics: dict[str, float], totals: Sequence[str], seconds: float
    ) -> None:
        """Prints the step's line, ``totals`` at its end, and moves the bar."""
        parts = [f"reward {metrics['critic/score/mean']:6.3f}"]
        for column in (*self._columns, _ENTROPY):
            if column.step_metric in metrics:
                parts.append(column.show(metrics[column.step_metric]))
        width = len(str(self._total_steps))
        line = f"step {step:{width}d}/{self._total_steps}  " + "  ".join([*parts, *totals])
        console.print(f"{line}  {seconds:4.1f} s", highlight=False, soft_wrap=True)
        self._progress.update(self._task, completed=step)

    def show_skipped(self, step: int, reason: str) -> None:
        """Prints that a step had nothing to learn from and why, and moves the bar."""
        width = len(str(self._total_steps))
        console.print(
            f"step {step:{width}d}/{self._total_steps}  no update: {reason}",
            highlight=False,
            soft_wrap=True,
        )
        self._progress.update(self._task, completed=step)

    @contextmanager
    def validation(self, rows: int) -> Iterator[Callable[[Trajectory], None]]:
        """A second bar while validating; yields what to call per finished trajectory."""
        task = self._progress.add_task("validating", total=rows)

        def advance(_: Trajectory) -> None:
            self._progress.advance(task)

        try:
            yield advance
        finally:
            self._progress.remove_task(task)

    def show_validation(
        self, step: int, metrics: dict[str, float], totals: Sequence[str], seconds: float
    ) -> None:
        """Prints one line with the means over all sources, ``totals`` at its end."""
        values = {
            name.split("/")[2]: value for name, value in metrics.items() if name.endswith("/all")
        }
        text = "  ".join([*(f"{name} {value:.3f}" for name, value in values.items()), *totals])
        console.print(
            f"[bold]validation after {step} steps[/]  {text}  {seconds:4.1f} s",
            highlight=False,
            soft_wrap=True,
        )
