"""The embedded world behind its real HTTP server, as slow as hosted LLMs are.

Guarantees: a reply's latency is drawn from a log-normal distribution by a hash of LLM and query
alone, so every loop that asks the same waits as long.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import NormalDist

from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.process import hosted_pool
from router_r1.pool.hosted.server import SimulatedReply
from router_r1.pool.loading import load_pool
from router_r1.world.config import WorldConfig
from router_r1.world.simulated_llm import World

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Latency:
    """Log-normal, by its median and 99th percentile; both 0 answers at once."""

    median_s: float
    p99_s: float

    def quantile(self, share: float) -> float:
        """Seconds that ``share`` of the calls do not exceed."""
        if not self.median_s:
            return 0.0
        sigma = math.log(self.p99_s / self.median_s) / NormalDist().inv_cdf(0.99)
        return self.median_s * math.exp(sigma * NormalDist().inv_cdf(share))


SLOW = Latency(0.5, 8.0)
NONE = Latency(0.0, 0.0)


class SlowWorld:
    """The world's replies, late; ``reply`` is a :data:`router_r1.pool.hosted.server.Reply`."""

    def __init__(self, latency: Latency) -> None:
        self.world = World(WorldConfig())
        self._latency = latency

    def reply(self, llm: str, query: str) -> SimulatedReply:
        """What the world says."""
        digest = hashlib.blake2b(f"{llm}\x1f{query.strip()}".encode(), digest_size=8).digest()
        share = (int.from_bytes(digest, "big") + 0.5) / 2**64
        return replace(self.world.reply(llm, query), latency_s=self._latency.quantile(share))


def slow_world(median_s: float, p99_s: float) -> SlowWorld:
    """What the hosting process replies from."""
    return SlowWorld(Latency(median_s, p99_s))


@contextmanager
def slow_pool(latency: Latency, concurrency: int) -> Iterator[PoolConfig]:
    """The embedded pool, served by a process of its own. Its limits are wide, ``concurrency`` calls
    at once for each LLM: the loop is measured, not a quota."""
    pool = load_pool("embedded")
    pool = replace(
        pool,
        llms=[replace(llm, concurrency=concurrency) for llm in pool.llms],
        request_timeout_s=TIMEOUT_S,
        max_retries=0,
    )
    settings = {"median_s": latency.median_s, "p99_s": latency.p99_s}
    with hosted_pool(pool, "benchmarks.slow_pool:slow_world", settings) as url:
        yield replace(pool, api_base=url)
