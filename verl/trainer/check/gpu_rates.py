"""What a GPU does with a model of some size, from its data sheet and what one H100 was measured to
do.

Guarantees: a card that is not listed has no rates, never a guess.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from verl.trainer.check.model_shape import ModelShape
from verl.trainer.check.step_time import Rates

H100 = "H100"
# Data sheets: dense bfloat16 FLOP/s, and bytes/s of the memory. The first name whose words a card's
# own holds counts.
_SHEETS = {
    "B200": (2250e12, 8.0e12),
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    H100: (989e12, 3.35e12),
    "H800": (989e12, 3.35e12),
    "H20": (148e12, 4.0e12),
    "A100": (312e12, 2.0e12),
    "A800": (312e12, 2.0e12),
    "L40S": (362e12, 0.86e12),
    "RTX 4090": (165e12, 1.01e12),
    "RTX A6000": (155e12, 0.77e12),
    "A40": (150e12, 0.70e12),
}
# Measured on an H100 with passes of 16,384 tokens, by parameters (docs/gpu.md).
_SIZES = (0.494e9, 3.086e9)
_SCORED = (109_462.0, 53_713.0)  # tokens/s
_UPDATED = (34_655.0, 13_735.0)
_UPDATED_OFFLOADED = (18_953.0, 3_900.0)
_COPY_SHARE = 2.88e12 / 3.35e12  # of the sheet's bytes/s
_LAYER_S = 18.8e-3 / 36  # of a decode step without CUDA graphs, which waits for the host
_PUBLISHED = 6.2e9 / 0.45  # bytes/s, weights from trainer to engine
_SWITCH_S = 0.73  # the engine's sleep and wake
# Seconds of the driver's one core, measured on two CPU cores (benchmarks): a turn is half of a
# trajectory of many_at_once (two turns and a call), and a generation's way through Ray; collating,
# reward and advantages of a trajectory are those of growth, with 10,000.
TURN_S, TRAJECTORY_S = 0.36e-3 + 0.55e-3, 2.2e-4


@dataclass(frozen=True)
class Card:
    """A kind of GPU: dense bfloat16 FLOP/s, and bytes/s of its memory."""

    name: str
    flops: float
    bandwidth: float

    @classmethod
    def of(cls, name: str) -> Card | None:
        """By the name that the driver gives it; None where it is not listed."""
        for known, sheet in _SHEETS.items():
            if re.match(rf".*\b{known}\b", name):  # an A4000 is no A40
                return cls(known, *sheet)
        return None


def gpu_rates(
    card: Card,
    shape: ModelShape,
    context: float,
    max_sequences: int,
    graphs: bool,
    offloads: bool,
    sleeps: bool,
) -> Rates:
    """Of one GPU. Passes scale with the card's FLOP/s and, between the two models that were
    measured, with the model's size; decoding with the card's memory and the model's layers.

    Args:
        context: tokens of a trajectory whose keys and values the engine reads in each step.
        max_sequences: that an engine decodes at once.
        graphs: the engine replays CUDA graphs.
        offloads: the actor's optimizer or parameters rest in main memory.
        sleeps: the engine is put to sleep while the trainer computes.
    """
    faster = card.flops / _SHEETS[H100][0]
    copied = _COPY_SHARE * card.bandwidth
    weights = 2.0 * shape.parameters
    read_s = weights / copied
    scored = faster * _at_size(_SCORED, shape.parameters)
    updated = _UPDATED_OFFLOADED if offloads else _UPDATED
    cache = context * shape.layers * 2 * shape.key_value * 2
    return Rates(
        decode_step_s=read_s if graphs else max(read_s, shape.layers * _LAYER_S),
        decode_sequence_s=1 / scored + cache / copied,
        scoring_tokens_per_s=scored,
        update_tokens_per_s=faster * _at_size(updated, shape.parameters),
        publish_s=weights / _PUBLISHED + _SWITCH_S * sleeps,
        turn_s=TURN_S,
        trajectory_s=TRAJECTORY_S,
        max_sequences=max_sequences,
    )


def _at_size(measured: tuple[float, float], parameters: float) -> float:
    """Tokens/s: a power of the size between the two that were measured, above them as many FLOP/s
    as at the larger. A smaller model is no faster, since its passes wait for the host."""
    small, large = _SIZES
    if parameters <= small:
        return measured[0]
    if parameters >= large:
        return measured[1] * large / parameters
    share = math.log(parameters / small) / math.log(large / small)
    return float(measured[0] * (measured[1] / measured[0]) ** share)
