"""What the workers of trained models share: how they are saved, and how they go on."""

from __future__ import annotations

from pathlib import Path

from verl.single_controller.dispatch import Dispatch, register
from verl.single_controller.worker import Worker
from verl.workers.fsdp.engine import FSDPEngine


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
        """See :meth:`FSDPEngine.load_state`."""
        self._engine.load_state(Path(state))
