"""Traces what a worker process does, by torch's profiler.

Guarantees: a trace appears whole or not at all; a disk that takes none does not end the run.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from verl.utils.files import written_whole

logger = logging.getLogger(__name__)


class RankProfiler:
    """Of this process and its GPU, all roles in it."""

    def __init__(self) -> None:
        self._profile: profile | None = None

    def start(self) -> None:
        """Begins to trace."""
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities)
        self._profile.start()

    def stop(self, path: Path) -> None:
        """Ends and writes a trace for chrome://tracing or Perfetto; nothing without a start. The
        path ends in ``.json.gz``; its folder is made."""
        if self._profile is None:
            return
        self._profile.stop()
        try:
            with written_whole(path) as temporary:
                self._profile.export_chrome_trace(str(temporary))
        except (OSError, RuntimeError) as error:
            logger.warning("the trace %s was not written: %s", path, error)
        self._profile = None
