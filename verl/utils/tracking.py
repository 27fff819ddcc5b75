"""Where metrics go: console, JSONL, wandb, TensorBoard.

Guarantees: a backend that cannot work (no wandb login, no network, a full disk) neither blocks nor
ends a run; what it could not take is said once.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verl.utils.checkpoints import Checkpoint
from verl.utils.wandb_login import choose_mode

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


class JsonlBackend:
    """One JSON object a line, with ``step``; written at once, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Appends a line; NaN and infinity become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        line = (json.dumps({"step": step, **finite}) + "\n").encode()
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        except OSError:
            self._file.truncate(before)
            raise

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class WandbBackend:
    """wandb: online with a login and a network, else offline files, which it says."""

    def __init__(
        self,
        project: str,
        experiment: str,
        folder: Path,
        config: Mapping[str, Any],
        run_id: str | None = None,
    ) -> None:
        import wandb

        mode, reason = choose_mode()
        if reason:
            logger.info(
                "wandb works offline, because %s; send the run later with `wandb sync %s`",
                reason,
                folder / "wandb" / "latest-run",
            )
        self._run = wandb.init(
            project=project,
            name=experiment,
            dir=folder,
            config=dict(config),
            mode=mode,
            id=run_id,
            resume=None if run_id is None else "allow",
            settings=wandb.Settings(init_timeout=30, silent=True),
        )

    @property
    def run_id(self) -> str:
        """Under which wandb knows the run."""
        return str(self._run.id)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends the metrics."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Ends the wandb run."""
        self._run.finish()


class TensorBoardBackend:
    """Event files under ``tensorboard/``; those of an earlier process count up to a step."""

    def __init__(self, folder: Path, after_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purged = None if after_step is None else after_step + 1
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=purged)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


Backend = JsonlBackend | WandbBackend | TensorBoardBackend


class Tracking:
    """Fans metrics out to the chosen backends; "console" is the progress display's business.

    Args:
        backends: names from ``trainer.logger``.
        project, experiment: names for wandb.
        config: already redacted, for wandb.
        start: the checkpoint that the run goes on from; trackers go on where that was saved, if it
            is of this folder.
    """

    def __init__(
        self,
        backends: Sequence[str],
        folder: Path,
        project: str,
        experiment: str,
        config: Mapping[str, Any],
        start: Checkpoint | None = None,
    ) -> None:
        own = start if start is not None and start.belongs_to(folder) else None
        after_step = None if own is None else own.step
        wandb_id = None if own is None else own.read_run_state()["trackers"].get("wandb")
        self._backends: dict[str, Backend] = {}
        self._failing: set[str] = set()
        makers: dict[str, Callable[[], Backend]] = {
            "jsonl": lambda: JsonlBackend(folder / METRICS_FILE),
            "tensorboard": lambda: TensorBoardBackend(folder, after_step),
            "wandb": lambda: WandbBackend(project, experiment, folder, config, wandb_id),
        }
        for name in backends:
            if name in makers:
                with self._tolerating(name, "is off for this run"):
                    self._backends[name] = makers[name]()

    @property
    def run_ids(self) -> dict[str, str]:
        """Names under which trackers know this run, by tracker."""
        wandb = self._backends.get("wandb")
        return {"wandb": wandb.run_id} if isinstance(wandb, WandbBackend) else {}

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records the metrics of a step everywhere."""
        for name, backend in self._backends.items():
            with self._tolerating(name, f"did not take the metrics of step {step}"):
                backend.log(metrics, step)

    def close(self) -> None:
        """Flushes every backend."""
        for name, backend in self._backends.items():
            with self._tolerating(name, "could not be closed"):
                backend.close()

    @contextmanager
    def _tolerating(self, name: str, what: str) -> Iterator[None]:
        """No tracker's error ends the run; each backend's first is told."""
        try:
            yield
        except Exception as error:
            if name not in self._failing:
                logger.warning("%s %s, and the run goes on: %s", name, what, error)
            self._failing.add(name)


@contextmanager
def tolerating(what: str) -> Iterator[None]:
    """Work whose failure must not end the run: an error is a warning that begins with ``what``."""
    try:
        yield
    except Exception as error:
        logger.warning("%s, and the run goes on: %s", what, error)
