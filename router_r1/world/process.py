"""Runs the simulated pool server as a process of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router_r1.pool.config import PoolConfig
from router_r1.world.config import WorldConfig

logger = logging.getLogger(__name__)
_START_TIMEOUT_S = 60.0


@contextmanager
def simulated_pool(
    pool: PoolConfig, world: WorldConfig, time_scale: float = 1.0, port: int = 0
) -> Iterator[str]:
    """Starts the server, yields its base URL, ends it.

    Raises:
        RuntimeError: if the server does not start; with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="router-r1-pool-") as folder:
        ready_file = Path(folder) / "url"
        log = Path(folder) / "log"
        models = [f"{llm.model}={llm.name}" for llm in pool.llms]
        command = [
            *(sys.executable, "-m", "router_r1.world.serve"),
            *("--world-seed", str(world.seed), "--ready-file", str(ready_file)),
            *("--train-entities", str(world.train_entities)),
            *("--eval-entities", str(world.eval_entities)),
            *("--time-scale", str(time_scale), "--port", str(port)),
            *("--models", *models),
        ]
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
