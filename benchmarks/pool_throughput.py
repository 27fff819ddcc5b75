"""How near the pool client comes to the ideal: 2,000 calls of 200 ms, 256 at once.

    .venv/bin/python benchmarks/pool_throughput.py

The server is a process of its own; it and the client have a core each. The ideal is
calls x latency / concurrency; beside it stands bare aiohttp with the same calls, which no client
on this machine can beat by much. Prints seconds and ratios.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import aiohttp
from rich.table import Table

from router_r1.pool.client import PoolClient
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import Outcome
from verl.utils.console import console
from verl.utils.garbage import spare_the_collector

CALLS, LATENCY_S, CONCURRENCY = 2000, 0.2, 256
IDEAL_S = CALLS * LATENCY_S / CONCURRENCY
ROUNDS = 3
CORES = sorted(os.sched_getaffinity(0))
QUERY = "the director of Nobody Known"


BODY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "Somebody Else."}}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 3},
    }
)
RESPONSE = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
).encode()
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    """Answers every request of a connection after LATENCY_S.

    As little HTTP as will do: a web framework's own milliseconds, 256 at a time, would be measured
    as the client's.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remembers where to write."""
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Starts the clock once a request is whole."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if separator and length and len(body) >= int(length.group(1)):
            self._received = b""
            loop = asyncio.get_running_loop()
            loop.call_later(LATENCY_S, self._transport.write, RESPONSE)


async def serve(ready_file: str) -> None:
    """The server; ends with the process that started it."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(Answering, "127.0.0.1", 0, backlog=1024)
    port = listening.sockets[0].getsockname()[1]
    Path(ready_file).write_text(f"http://127.0.0.1:{port}/v1", encoding="utf-8")
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1.0)


@contextmanager
def server() -> Iterator[str]:
    """Starts the server; its base URL."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "url"
        process = subprocess.Popen([sys.executable, __file__, "serve", str(ready)])
        os.sched_setaffinity(process.pid, CORES[1:] or CORES)
        try:
            while not (ready.exists() and ready.read_text(encoding="utf-8")):
                time.sleep(0.05)
            yield ready.read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait()


Call = Callable[[int], Awaitable[None]]


async def rollout(call: Call) -> tuple[float, float]:
    """Seconds of all calls by so many trajectories at once, each asking again when it has its
    reply: with new connections, and again with those of the first time."""

    async def trajectory(first: int) -> None:
        for number in range(first, CALLS, CONCURRENCY):
            await call(number)

    seconds = []
    for _ in range(2):
        start = time.monotonic()
        await asyncio.gather(*(trajectory(i) for i in range(CONCURRENCY)))
        seconds.append(time.monotonic() - start)
    return seconds[0], seconds[1]


async def with_client(url: str) -> tuple[float, float]:
    """Through :class:`PoolClient`."""
    llm = LLMConfig(name="A", model="a", completion_price=1.0, concurrency=CONCURRENCY)
    client = PoolClient(PoolConfig(name="bench", llms=[llm], api_base=url))

    async def call(number: int) -> None:
        result = await client.ask("A", f"{QUERY} {number}")
        assert result.outcome is Outcome.OK

    try:
        await call(0)
        return await rollout(call)
    finally:
        await client.close()


async def with_aiohttp(url: str) -> tuple[float, float]:
    """The same calls without any client of ours."""
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(number: int) -> None:
            content = f"{QUERY * 20} {number}"
            body = {"model": "a", "messages": [{"role": "user", "content": content}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        await call(0)
        return await rollout(call)


def measure() -> dict[str, float]:
    """Runs both, alternately, on one core."""
    spare_the_collector()
    with server() as url:
        os.sched_setaffinity(0, CORES[:1])
        rows = []
        for _ in range(ROUNDS):
            rows.append((asyncio.run(with_client(url)), asyncio.run(with_aiohttp(url))))
    title = (
        f"{CALLS} calls of {LATENCY_S} s, {CONCURRENCY} at once: seconds, and of {IDEAL_S:.2f} s"
    )
    table = Table(title=title, title_justify="left")
    for column in ("round", "client, new connections", "kept", "aiohttp, new connections", "kept"):
        table.add_column(column, justify="right")
    for number, (ours, bare) in enumerate(rows, start=1):
        cells = (f"{seconds:.2f}  {seconds / IDEAL_S:.2f}" for seconds in (*ours, *bare))
        table.add_row(str(number), *cells)
    console.print(table)
    new = statistics.median(bare[0] / ours[0] for ours, bare in rows)
    kept = statistics.median(bare[1] / ours[1] for ours, bare in rows)
    ideal = statistics.median(IDEAL_S / ours[1] for ours, _ in rows)
    return {
        "aiohttp's time over the client's, new connections": new,
        "aiohttp's time over the client's, kept connections": kept,
        "ideal time over the client's, kept connections": ideal,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(sys.argv[2]))
    else:
        measure()
