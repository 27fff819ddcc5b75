"""Config of the profiler."""

from __future__ import annotations

from dataclasses import dataclass, field

from verl.config.validation import NOT_NEGATIVE, POSITIVE, ConfigError, Section


@dataclass
class ProfilerConfig(Section, prefix="trainer.profiler."):
    """Training steps whose work in the worker processes is traced by torch's profiler.

    Attributes:
        steps: which, counted from 1; none by default. A trace costs time and, for a step of many
            micro-batches, hundreds of MB.
        ranks: of the processes that are traced.
    """

    steps: list[int] = field(default_factory=list, metadata=POSITIVE)
    ranks: list[int] = field(default_factory=lambda: [0], metadata=NOT_NEGATIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps and not self.ranks:
            raise ConfigError("trainer.profiler.ranks must name a rank, got none")
