"""Config of what a run keeps of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from verl.config.validation import require_choice

AUTO, NEVER = "auto", "never"
EXPORTS = ("always", "last", "never")


@dataclass
class KeepBestConfig:
    """A checkpoint that is kept beside the newest ones.

    Attributes:
        metric: by its name in ``metrics.jsonl``, of the checkpoint's step; one of a validation is
            known only at steps that are validated.
        mode: "max" keeps that of the highest value, "min" that of the lowest.
    """

    metric: str = MISSING
    mode: str = "max"

    def __post_init__(self) -> None:
        require_choice("trainer.keep_best.mode", self.mode, ("max", "min"))
