"""Dollars as people read them."""

from __future__ import annotations

import math


def show_dollars(amount: float) -> str:
    """ "$1,234", "$12.34", and two digits of what is less: "$0.0094"."""
    if amount >= 1000:
        return f"${amount:,.0f}"
    if amount >= 1 or amount <= 0:
        return f"${amount:.2f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}"
