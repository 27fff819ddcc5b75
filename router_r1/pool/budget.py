"""A hard spending limit.

Guarantees: a call is sent only if what was spent, what calls under way may cost and the most that
this one may cost stay within the limit together; so spending never exceeds it while endpoints
bill no more than ``max_tokens``. A call waits rather than fails while others under way may turn
out cheaper than feared.
"""

from __future__ import annotations

import asyncio


class Budget:
    """Dollars of one run; a limit of None is none."""

    def __init__(self, limit_usd: float | None) -> None:
        self.limit_usd = limit_usd
        self.spent_usd = 0.0
        self.exhausted = False
        self._reserved = 0.0
        self._settled = asyncio.Event()

    async def reserve(self, most_usd: float) -> bool:
        """Sets aside the most a call may cost; False if the limit has no room for it."""
        if self.limit_usd is None:
            return True
        while self.spent_usd + self._reserved + most_usd > self.limit_usd:
            if self.spent_usd + most_usd > self.limit_usd:
                self.exhausted = True
                return False
            self._settled.clear()
            await self._settled.wait()
        self._reserved += most_usd
        return True

    def settle(self, most_usd: float, spent_usd: float) -> None:
        """Ends a reservation with what the call really cost."""
        self.spent_usd += spent_usd
        if self.limit_usd is not None:
            self._reserved -= most_usd
            self._settled.set()
