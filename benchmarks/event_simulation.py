"""A discrete-event simulation of the agent loop: every generation, call and turn of the driver.

What :mod:`verl.trainer.check.step_time` computes from averages, this plays out: trajectories that
draw their number of calls, turn lengths and latencies; engines that decode all their sequences a
step at a time, and stop for the prefill of those that join; a service that lets so many calls in,
in order; a driver that does one thing at a time.

Guarantees: every trajectory ends exactly once; the same seed gives the same numbers.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from verl.forecast import Work
from verl.trainer.check.step_time import Rates

_SPREAD = 0.3  # standard deviation of the logarithm of a turn's length


@dataclass(frozen=True)
class Simulated:
    """What came of it.

    Attributes:
        seconds: until the last trajectory ended.
        ended: trajectories.
        most_calls: at once.
        engine_share: of the time that an engine had something to do, on average.
        driver_share: of the time that the driver had.
    """

    seconds: float
    ended: int
    most_calls: int
    engine_share: float
    driver_share: float


class Clock:
    """What happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Does ``action`` then; what is due at the same time, in order of these calls."""
        self._number += 1
        heapq.heappush(self._events, (time, self._number, action))

    def run(self) -> None:
        """Until nothing is left."""
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()


@dataclass
class Engine:
    """Decodes its sequences side by side. ``tokens`` counts what each has got since the start, so
    that a sequence that joins now with n tokens to go ends when the count has grown by n."""

    clock: Clock
    rates: Rates
    busy_s: float = 0.0
    _tokens: float = 0.0
    _prefill_s: float = 0.0
    _since: float = 0.0
    _running: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _waiting: deque[tuple[float, float, Callable[[], None]]] = field(default_factory=deque)
    _number: int = 0

    def generate(self, new_tokens: float, to_read: float, then: Callable[[], None]) -> None:
        """Reads ``to_read`` tokens and writes ``new_tokens``."""
        self._catch_up()
        self._waiting.append((new_tokens, to_read, then))
        self._admit()
        self._plan()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.rates.max_sequences:
            new_tokens, to_read, then = self._waiting.popleft()
            self._number += 1
            self._prefill_s += to_read / self.rates.scoring_tokens_per_s
            heapq.heappush(self._running, (self._tokens + new_tokens, self._number, then))

    def _catch_up(self) -> None:
        """Accounts for the time since the last change: prefill first, then steps."""
        passed = self.clock.now - self._since
        self._since = self.clock.now
        if not self._running:
            return
        self.busy_s += passed
        prefilled = min(passed, self._prefill_s)
        self._prefill_s -= prefilled
        self._tokens += (passed - prefilled) / self.rates.decode_s(len(self._running))

    def _plan(self) -> None:
        """When the next sequence ends, if none joins before."""
        if not self._running:
            return
        number, left = self._number, max(0.0, self._running[0][0] - self._tokens)
        size = len(self._running)
        ends = self.clock.now + self._prefill_s + left * self.rates.decode_s(size)
        self.clock.at(ends, lambda: self._end(number, size))

    def _end(self, number: int, size: int) -> None:
        if (number, size) != (self._number, len(self._running)):
            return  # planned before another joined or left
        self._catch_up()
        target, _, then = heapq.heappop(self._running)
        self._tokens = max(self._tokens, target)
        self._admit()
        self._plan()
        then()


@dataclass
class Service:
    """Lets ``at_once`` calls in, no more than ``per_minute``, in order."""

    clock: Clock
    at_once: int | None
    per_minute: float | None
    most: int = 0
    _inside: int = 0
    _next: float = 0.0
    _waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)

    def call(self, latency_s: float, then: Callable[[], None]) -> None:
        """Calls, as soon as there is room."""
        self._waiting.append((latency_s, then))
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self.at_once is None or self._inside < self.at_once):
            latency_s, then = self._waiting.popleft()
            self._inside += 1
            self.most = max(self.most, self._inside)
            begins = self.clock.now
            if self.per_minute is not None:
                begins = max(begins, self._next)
                self._next = begins + 60.0 / self.per_minute
            self.clock.at(begins + latency_s, lambda then=then: self._leave(then))  # type: ignore[misc]

    def _leave(self, then: Callable[[], None]) -> None:
        self._inside -= 1
        self._admit()
        then()


@dataclass
class Driver:
    """One thing at a time, in order."""

    clock: Clock
    turn_s: float
    busy_s: float = 0.0
    _free: float = 0.0

    def work(self, then: Callable[[], None]) -> None:
        """A turn's share of the driver's time, then ``then``."""
        self._free = max(self._free, self.clock.now) + self.turn_s
        self.busy_s += self.turn_s
        self.clock.at(self._free, then)


def simulate(work: Work, rates: Rates, gpus: int, seed: int = 0) -> Simulated:
    """One synchronous rollout on ``gpus`` engines."""
    rng, clock, calls = random.Random(seed), Clock(), work.calls
    engines = [Engine(clock, rates) for _ in range(gpus)]
    service = Service(clock, calls.at_once, calls.per_minute)
    driver = Driver(clock, rates.turn_s)
    ended = 0

    def turn(engine: Engine, left: int, to_read: float) -> None:
        length = max(1.0, work.turn_tokens * rng.lognormvariate(-(_SPREAD**2) / 2, _SPREAD))
        engine.generate(length, to_read, lambda: driver.work(lambda: act(engine, left)))

    def act(engine: Engine, left: int) -> None:
        nonlocal ended
        if not left:
            ended += 1
            return
        latency_s = min(calls.limit_s, calls.median_s * math.exp(rng.gauss(0.0, calls.sigma)))
        observed = float(work.observation_tokens)
        service.call(latency_s, lambda: turn(engine, left - 1, observed))

    for number in range(work.trajectories):
        whole = math.floor(calls.each)
        made = whole + (rng.random() < calls.each - whole)
        turn(engines[number % gpus], made, float(work.prompt_tokens))
    clock.run()
    busy = sum(engine.busy_s for engine in engines) / gpus
    return Simulated(
        clock.now, ended, service.most, busy / clock.now, driver.busy_s / max(clock.now, 1e-9)
    )
