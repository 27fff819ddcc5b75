"""Runs the project's commands as a user does, and finds what they leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MARK = "ROUTER_R1_TEST_RUN"
# A policy that knows the format and mostly copies right, in a third of the quickstart's steps:
# heads that look one token back learn to copy sooner.
POLICY = ROOT / ".cache" / "cold_start_of_tests"
# A run of two or three small steps; the cold start's policy comes from a cache that all runs share.
SMALL = (
    f"cold_start.folder={POLICY}",
    "cold_start.policy={embedding_range: 1.0, look_back: [1, 1, 1, 1]}",
    "cold_start.steps=120",
    "cold_start.copy_steps=70",
    "cold_start.lr=4e-3",
    "cold_start.gate_freq=120",
    "cold_start.gate.copies=0.6",
    "cold_start.gate.format=0.9",
    "data.train_batch_size=16",
    "data.val_data_num=24",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "critic.ppo_mini_batch_size=8",
    "critic.warmup_steps=1",
    "trainer.test_freq=-1",
)


@dataclass
class Command:
    """One command under way; every process it starts inherits a mark in its environment."""

    process: subprocess.Popen[str]
    mark: str
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Reads on until a line matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"never saw {pattern!r} in:\n{self.output}")

    def finish(self) -> int:
        """Reads to the end; the exit code."""
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)
        return self.process.wait(timeout=60)

    def survivors(self, patience_s: float = 15.0) -> list[str]:
        """Command lines of this run's processes that are alive after ``patience_s``."""
        deadline = time.monotonic() + patience_s
        while (alive := _marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return alive

    def interrupt(self, group: bool) -> None:
        """Ctrl-C reaches the whole foreground group; a supervisor sends SIGTERM to one process."""
        if group:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.terminate()


def start(*command: str, folder: Path = ROOT, **environment: str) -> Command:
    """Starts a command in the project's root or another folder, in a process group of its own."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "WANDB_MODE": "offline", **environment, _MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # As a terminal starts it, also where these tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return Command(process, mark)


def _marked(mark: str) -> list[str]:
    wanted = f"{_MARK}={mark}".encode()
    alive = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if wanted in (folder / "environ").read_bytes():
                alive.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120])
        except OSError:
            continue
    return alive


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """The lines of a run's metrics file."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
