"""How much the cost of calls weighs in a question's reward: one weight for all questions, or one
drawn for each.

Guarantees: what is drawn for a row depends on the row alone, so that its prompt, its reward and a
run that goes on agree on it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verl.config.validation import ConfigError
from verl.utils.rows import RowError, extra_info, shown

FIELD = "cost_coe"
# Of weights drawn from a range; a prompt's compact style says tenths.
_STEP = 0.1
_FORMS = "a number in [0, 1], a list of such, or a range as 0..0.9"
_RANGE = ".."


@dataclass(frozen=True)
class CostPreference:
    """The weights of cost that a run's questions may have, in rising order."""

    values: tuple[float, ...]

    @classmethod
    def read(cls, setting: Any) -> CostPreference:
        """From the configuration's ``cost_coe``: a number, a list, or a range as "0..0.9"; raises
        :class:`ConfigError` for anything else, and for weights outside [0, 1]."""
        if isinstance(setting, str):
            return cls(_of_range(setting))
        listed = list(setting) if isinstance(setting, list | tuple) else [setting]
        if not listed:
            raise ConfigError(f"{FIELD} must be {_FORMS}; got an empty list")
        return cls(tuple(sorted({_weight(value, setting) for value in listed})))

    @property
    def single(self) -> float | None:
        """The one weight of all questions; None if they differ."""
        return self.values[0] if len(self.values) == 1 else None

    @property
    def least(self) -> float:
        """The weight of who names none: quality first."""
        return self.values[0]

    def of_row(self, row: Mapping[str, Any]) -> float:
        """The weight of a data row's question: :func:`own_weight`, else drawn by the row."""
        own = own_weight(row)
        if own is not None:
            return own
        info = extra_info(row)
        key = f"{info.get('index')}\x1f{info.get('question')}"
        digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
        return self.values[int.from_bytes(digest, "big") % len(self.values)]


def own_weight(row: Mapping[str, Any]) -> float | None:
    """``extra_info.cost_coe`` of a row; None if it names none, :class:`RowError` if it is no number
    in [0, 1]."""
    value = extra_info(row).get(FIELD)
    if value is None:
        return None
    if not is_weight(value):
        raise RowError(
            f"extra_info.{FIELD}", f"must be a number in [0, 1], or absent; got {shown(value)}"
        )
    return float(value) + 0.0


def is_weight(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0.0 <= value <= 1.0


def _weight(value: Any, setting: Any) -> float:
    if not is_weight(value):
        raise ConfigError(f"{FIELD} must be {_FORMS}; got {setting!r}")
    return float(value)


def _of_range(text: str) -> tuple[float, ...]:
    try:
        low, high = (_weight(float(end), text) for end in text.split(_RANGE))
    except ValueError:
        raise ConfigError(f"{FIELD} must be {_FORMS}; got {text!r}") from None
    if not low < high:
        raise ConfigError(f"{FIELD}={text}: a range begins with its lower end")
    first, last = math.ceil(round(low / _STEP, 6)), math.floor(round(high / _STEP, 6))
    inner = (round(step * _STEP, 2) for step in range(first, last + 1))
    return tuple(sorted({low, *inner, high}))
