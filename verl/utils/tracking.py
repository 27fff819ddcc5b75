"""Where metrics go: console, JSONL, wandb, TensorBoard.

Guarantees: a backend that cannot work (no wandb key, no network) never blocks or ends a run.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

logger = logging.getLogger(__name__)


class Backend(Protocol):
    """One destination of metrics."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records the metrics of a step."""
        ...

    def close(self) -> None:
        """Flushes."""
        ...


class JsonlBackend:
    """One JSON object a line, with ``step``; flushed at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Appends a line; NaN and infinity become null."""
        finite = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class WandbBackend:
    """wandb: online with a key, else offline files."""

    def __init__(
        self, project: str, experiment: str, folder: Path, config: Mapping[str, Any]
    ) -> None:
        import wandb

        has_key = bool(os.environ.get("WANDB_API_KEY"))
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
        self._run = wandb.init(
            project=project,
            name=experiment,
            dir=folder,
            config=dict(config),
            mode=mode,
            settings=wandb.Settings(init_timeout=30, silent=True),
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends the metrics."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Ends the wandb run."""
        self._run.finish()


class TensorBoardBackend:
    """Event files under ``tensorboard/``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class Tracking:
    """Fans metrics out to the chosen backends; "console" is the progress display's business.

    Args:
        backends: names from ``trainer.logger``.
        folder: of the run.
        project, experiment: names for wandb.
        config: already redacted, for wandb.
    """

    def __init__(
        self,
        backends: Sequence[str],
        folder: Path,
        project: str,
        experiment: str,
        config: Mapping[str, Any],
    ) -> None:
        self._backends: list[Backend] = []
        if "jsonl" in backends:
            path = folder / "metrics.jsonl"
            path.unlink(missing_ok=True)
            self._backends.append(JsonlBackend(path))
        if "tensorboard" in backends:
            self._backends.append(TensorBoardBackend(folder))
        if "wandb" in backends:
            try:
                self._backends.append(WandbBackend(project, experiment, folder, config))
            except Exception as error:  # any failure of a tracker must not stop a run
                logger.warning("wandb is off for this run: %s", error)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Records the metrics of a step everywhere."""
        for backend in self._backends:
            backend.log(metrics, step)

    def close(self) -> None:
        """Flushes every backend."""
        for backend in self._backends:
            backend.close()
