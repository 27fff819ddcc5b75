"""Hosts a pool in a process of its own.

Guarantees: the process ends with the one that started it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from router_r1.pool.config import PoolConfig
from router_r1.pool.hosted.server import SimulatedPoolServer, listening
from verl.utils.files import write_text

logger = logging.getLogger(__name__)
_START_TIMEOUT_S = 60.0


@contextmanager
def hosted_pool(
    pool: PoolConfig,
    source: str,
    settings: Mapping[str, object],
    time_scale: float = 1.0,
) -> Iterator[str]:
    """Starts the server, yields its base URL, ends it.

    Args:
        pool: whose LLMs are hosted, all at one endpoint; its tools need none.
        source: ``module:function`` that makes an object whose ``reply`` is a
            :data:`~router_r1.pool.hosted.server.Reply`.
        settings: the function's keyword arguments; JSON can hold them.
        time_scale: factor on the simulated latencies; 0 answers at once.

    Raises:
        RuntimeError: if the server does not start; with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="router-r1-pool-") as folder:
        ready_file = Path(folder) / "url"
        log = Path(folder) / "log"
        models = {llm.model: llm.name for llm in pool.llms if not llm.is_tool}
        arguments = (source, dict(settings), models, time_scale, str(ready_file))
        command = [sys.executable, "-m", __name__, json.dumps(arguments)]
        # A session of its own: Ctrl-C reaches us, and we end the server when we are done with it.
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            yield _wait_until_ready(process, ready_file, log)
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if ready_file.exists():
            url = ready_file.read_text(encoding="utf-8")
            logger.info("simulated pool (pid %d) listens on %s", process.pid, url)
            return url
        time.sleep(0.05)
    raise RuntimeError(
        f"the simulated pool server did not start; it printed:\n{log.read_text(encoding='utf-8')}"
    )


async def _serve(
    source: str,
    settings: Mapping[str, Any],
    models: Mapping[str, str],
    time_scale: float,
    ready_file: str,
) -> None:
    """Serves until the parent process is gone; writes the base URL to ``ready_file``."""
    parent = os.getppid()
    reply = pkgutil.resolve_name(source)(**settings).reply
    server = SimulatedPoolServer(reply, models, time_scale)
    async with listening(server.application()) as url:
        write_text(Path(ready_file), url)
        while os.getppid() == parent:
            await asyncio.sleep(1.0)


if __name__ == "__main__":
    asyncio.run(_serve(*json.loads(sys.argv[1])))
