"""What the workers of trained models share: how they are saved, go on, and are profiled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from torch.profiler import profile

from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import Worker
from verl.utils.files import written_whole
from verl.workers.fsdp.engine import FSDPEngine

logger = logging.getLogger(__name__)


class RankProfiler:
    """Traces this process and its GPU, all roles in it. A trace appears whole or not at all; a disk
    that takes none does not end the run."""

    def __init__(self) -> None:
        self._profile: profile | None = None

    def start(self) -> None:
        """Begins to trace the CPU and, where there is one, the GPU: torch's default."""
        self._profile = profile()
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


class TrainedWorker(Worker):
    """Holds a model that is trained, as ``_engine``."""

    _engine: FSDPEngine

    @register(Dispatch.ONE_TO_ALL)
    def save_checkpoint(self, folder: str) -> None:
        """Writes the model in Hugging Face format, and returns when it is there."""
        self._engine.save(Path(folder))

    @register(Dispatch.ONE_TO_ALL)
    def begin_save(self, state: str, export: str | None) -> None:
        """See :meth:`FSDPEngine.begin_save`."""
        self._engine.begin_save(Path(state), None if export is None else Path(export))

    @register(Dispatch.ONE_TO_ALL)
    def save_error(self) -> str | None:
        """Why the save under way has failed; None as long as it has not."""
        return self._engine.state_writer.error

    @register(Dispatch.ONE_TO_ALL)
    def finish_save(self) -> str | None:
        """Waits for the save under way; why it failed, None if it did not."""
        return self._engine.state_writer.finish()

    @register(Dispatch.ONE_TO_ALL)
    def load_state(self, state: str) -> None:
        """See :meth:`~verl.workers.fsdp.training_state.TrainingState.load`."""
        self._engine.state.load(Path(state))

    @cached_property
    def _profiler(self) -> RankProfiler:
        return RankProfiler()

    @register(Dispatch.ONE_TO_ALL)
    def start_profiler(self, ranks: Sequence[int]) -> None:
        """The processes of these ranks begin to trace, the other roles in them as well."""
        if self.rank in ranks:
            self._profiler.start()

    @register(Dispatch.ONE_TO_ALL)
    def stop_profiler(self, folder: str, name: str) -> None:
        """They write ``<name>_rank_<rank>.json.gz`` into the folder."""
        self._profiler.stop(Path(folder) / f"{name}_rank_{self.rank}.json.gz")
