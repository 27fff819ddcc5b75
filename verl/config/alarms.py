"""Config of the warnings that training gives when a metric leaves its normal range."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from verl.config.validation import POSITIVE, ConfigError, Section


@dataclass
class AlarmRule:
    """The normal range of one metric of a training step.

    Bounds are absolute, or a factor on what the metric was early in the run; where a side has both,
    the wider one counts, and a side without bound is open.

    Attributes:
        metric: its name in the step's metrics; a run that does not report it has no such alarm.
        below, above: absolute bounds.
        falls_to, rises_to: factors on the early mean.
        advice: what to look at, put behind the warning.
    """

    metric: str = MISSING
    below: float | None = None
    above: float | None = None
    falls_to: float | None = None
    rises_to: float | None = None
    advice: str = ""

    def __post_init__(self) -> None:
        key = f"trainer.alarms.rules: {self.metric}"
        if self.below is not None and self.above is not None and self.below > self.above:
            raise ConfigError(f"{key}: below={self.below} exceeds above={self.above}")
        if self.falls_to is not None and not 0.0 <= self.falls_to < 1.0:
            raise ConfigError(f"{key}: falls_to must be in [0, 1), got {self.falls_to}")
        if self.rises_to is not None and not self.rises_to > 1.0:
            raise ConfigError(f"{key}: rises_to must be > 1, got {self.rises_to}")


@dataclass
class AlarmsConfig(Section, prefix="trainer.alarms."):
    """Which metrics are watched.

    Attributes:
        early_steps: a metric's early mean is over its first so many steps; it is not judged before.
        window: steps whose mean is judged, so that one odd batch raises no alarm.
        rules: take the place of the framework's and the task's own rules for the same metric; one
            without bounds switches its alarm off.
    """

    enabled: bool = True
    early_steps: int = field(default=5, metadata=POSITIVE)
    window: int = field(default=3, metadata=POSITIVE)
    rules: list[AlarmRule] = field(default_factory=list)
