"""Config of what a run keeps of its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from verl.config.validation import Section, one_of

AUTO, NEVER = "auto", "never"
EXPORTS = ("always", "last", "never")


@dataclass
class KeepBestConfig(Section, prefix="trainer.keep_best."):
    """A checkpoint that is kept beside the newest ones.

    Attributes:
        metric: by its name in ``metrics.jsonl``, of the checkpoint's step; one of a validation is
            known only at steps that are validated.
        mode: "max" keeps that of the highest value, "min" that of the lowest.
    """

    metric: str = MISSING
    mode: str = field(default="max", metadata=one_of("max", "min"))
