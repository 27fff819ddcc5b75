"""What a run's folder says of the run, while it is being written.

Guarantees: a folder that is empty, half written, set aside or begun anew is a state, never an
error; only whole lines count, and nothing that was read before outlives its file.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml

from router_r1.evaluation.frames import RoutedRecord
from router_r1.llm_agent.trajectory import RoutedTrajectory
from verl.trainer.evaluation.records import RecordError
from verl.trainer.ppo.rollout_log import read_trajectories
from verl.trainer.run_folder import SAMPLES_FOLDER, is_claimed, trajectories_files
from verl.utils.tracking import METRICS_FILE

T = TypeVar("T")
SHOWN_STEPS = 5
_QUIET_AFTER_S = 300.0
_read_samples = partial(read_trajectories, record_class=RoutedTrajectory)
_Signature = tuple[int, int, int]


class Phase(Enum):
    """Where a run is."""

    WAITING = "not begun"
    STARTING = "starting"
    TRAINING = "training"
    ENDED = "ended"
    QUIET = "quiet"


@dataclass(frozen=True)
class RunState:
    """A run as its folder shows it.

    Attributes:
        phase: QUIET has not ended, and nothing writes there: it was stopped, or it runs on
            another machine and takes long.
        config: of ``config.yaml``, {} until it is there.
        rows: of ``metrics.jsonl``, in the order written, each with ``step``.
        samples: trajectories by training step, the newest step first.
        summary: of ``summary.json``, {} before the end.
        written_at: when the run last wrote any of these, seconds since 1970; None if never.
        faults: files that cannot be used, in words.
    """

    name: str
    phase: Phase = Phase.WAITING
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: dict[int, list[RoutedRecord]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    written_at: float | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Training steps done."""
        return max((row["step"] for row in self.rows), default=0)

    @property
    def total_seconds(self) -> float | None:
        """That the run took, once it has ended."""
        seconds = self.summary.get("seconds")
        total = seconds.get("total") if isinstance(seconds, dict) else None
        return float(total) if isinstance(total, int | float) else None

    @property
    def total_steps(self) -> int | None:
        """As configured; None where the number of epochs says it."""
        steps = self.group("trainer").get("total_training_steps")
        return steps if isinstance(steps, int) else None

    def group(self, name: str) -> dict[str, Any]:
        """A group of the config; {} where it has none."""
        group = self.config.get(name)
        return group if isinstance(group, dict) else {}


class RunReader:
    """Reads a run's folder, which need not exist, again and again; a file is parsed once for each
    time it changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsed: dict[Path, tuple[_Signature, Any]] = {}

    def read(self) -> RunState:
        """The state right now."""
        newest_first = reversed(trajectories_files(self._folder / SAMPLES_FOLDER).items())
        sample_files = dict(islice(newest_first, SHOWN_STEPS))
        config_file, metrics_file, summary_file = others = [
            self._folder / name for name in ("config.yaml", METRICS_FILE, "summary.json")
        ]
        kept = {*others, *sample_files.values()}
        self._parsed = {path: known for path, known in self._parsed.items() if path in kept}
        state = RunState(
            name=self._folder.resolve().name,
            config=self._parse(config_file, partial(_object, load=yaml.safe_load)) or {},
            rows=self._parse(metrics_file, _metrics) or [],
            summary=self._parse(summary_file, partial(_object, load=json.loads)) or {},
        )
        for step, path in sample_files.items():
            try:
                state.samples[step] = self._parse(path, _read_samples) or []
            except RecordError as error:
                state.faults.append(str(error))
        times = (signature[1] / 1e9 for signature, _ in self._parsed.values())
        written_at = max(times, default=None)
        return replace(state, written_at=written_at, phase=self._phase(state, written_at))

    def _phase(self, state: RunState, written_at: float | None) -> Phase:
        if state.summary:
            return Phase.ENDED
        fresh = written_at is not None and time.time() - written_at < _QUIET_AFTER_S
        if is_claimed(self._folder) or fresh:
            return Phase.TRAINING if state.rows else Phase.STARTING
        return Phase.QUIET if state.rows or state.config else Phase.WAITING

    def _parse(self, path: Path, parser: Callable[[Path], T]) -> T | None:
        """What ``parser`` makes of the file; None if it is not there, or cannot be read yet."""
        try:
            stat = path.stat()
            signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            known = self._parsed.get(path)
            if known is None or known[0] != signature:
                known = self._parsed[path] = (signature, parser(path))
        except (OSError, ValueError, yaml.YAMLError):
            self._parsed.pop(path, None)
            return None
        value: T = known[1]
        return value


def _metrics(path: Path) -> list[dict[str, Any]]:
    """The numbers of each line that holds a step; a half-written or torn line is left out."""
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            numbers = {n: v for n, v in row.items() if isinstance(v, int | float)}
            rows.append({n: v for n, v in numbers.items() if math.isfinite(v)})
    return rows


def _object(path: Path, load: Callable[[str], Any]) -> dict[str, Any]:
    """The object in a file; {} if it holds something else."""
    content = load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}
