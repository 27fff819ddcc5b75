"""Saves a run's checkpoints while it goes on.

Guarantees: training waits only while its state is copied to host memory, and for a save that is
still under way when the next begins; a checkpoint gets its name when all of it is on disk, and
older ones go after that; one that cannot be written raises :class:`CheckpointError`, a step later
at most.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from verl.config.ppo import TrainerConfig
from verl.errors import UserError
from verl.trainer.ppo.run_state import RunState
from verl.utils.checkpoints import (
    REWARD_STATE,
    RUN_STATE,
    begin_checkpoint,
    commit_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    state_folder,
)
from verl.workers.fsdp.saving import export_state

_WRITTEN = ".metadata"  # the last file of a training state
_PATIENCE_S = 0.05

logger = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint that cannot be written."""


class CheckpointSaver:
    """Writes into a run's folder.

    Args:
        roles: worker handles of "actor" and, if there is one, "critic", each call of which goes to
            all ranks; see :meth:`verl.workers.fsdp.engine.FSDPEngine.begin_save`.
        saved: the state of a checkpoint that is there already; it is not written again.
    """

    def __init__(
        self, config: TrainerConfig, roles: Mapping[str, Any], saved: RunState | None = None
    ) -> None:
        self._config = config
        self._output_dir = Path(config.default_local_dir)
        self._roles = roles
        self._saved = saved
        self._committing: threading.Thread | None = None
        self._given_up = threading.Event()
        self._commit_error: Exception | None = None

    def save(self, state: RunState, reward: dict[str, Any]) -> None:
        """Begins to save what the workers hold now, and the states of driver and reward function.

        Raises:
            CheckpointError: if this one cannot be begun, or the one before has failed.
        """
        self.wait()
        if self._saved is not None and self._saved.moment == state.moment:
            return
        best = self._config.keep_best
        if best is not None and best.metric not in state.metrics:
            logger.warning(
                "trainer.keep_best: step %d has no metric %s, so its checkpoint cannot be the best",
                *(state.step, best.metric),
            )
        self._saved = state
        try:
            partial = begin_checkpoint(self._output_dir, state.step)
            (partial / RUN_STATE).write_text(state.to_text(), encoding="utf-8")
            (partial / REWARD_STATE).write_text(json.dumps(reward) + "\n", encoding="utf-8")
        except OSError as error:
            raise self._failure(str(error)) from error
        awaited = []
        for name, role in self._roles.items():
            folder, export = state_folder(partial, name), partial / name
            awaited.append(folder / _WRITTEN)
            if self._config.save_hf == "always":
                awaited.append(export)
                role.begin_save(str(folder), str(export))
            else:
                role.begin_save(str(folder), None)
        self._committing = threading.Thread(
            target=self._commit, args=(partial, awaited), name="commit", daemon=True
        )
        self._committing.start()

    def _commit(self, partial: Path, awaited: list[Path]) -> None:
        """Waits until all is written; each of the paths appears when what it stands for is."""
        assert self._saved is not None
        config = self._config
        try:
            while not _all_there(awaited):
                # Given up on, it may have been written since it was looked for.
                if self._given_up.wait(_PATIENCE_S) and not _all_there(awaited):
                    return
            commit_checkpoint(partial)
            prune_checkpoints(
                self._output_dir, self._saved.step, config.max_ckpt_to_keep, config.keep_best
            )
        except Exception as error:
            self._commit_error = error

    def check(self) -> None:
        """Raises :class:`CheckpointError` if the save under way has failed; does not wait."""
        if self._committing is None:
            return
        if self._committing.is_alive():
            self._raise_for([role.save_error() for role in self._roles.values()])
        else:
            self.wait()

    def wait(self) -> None:
        """Until the save under way has ended.

        Raises:
            CheckpointError: if it failed.
        """
        if self._committing is None:
            return
        self._raise_for([role.finish_save() for role in self._roles.values()])
        self._committing.join()
        self._committing = None
        if self._commit_error is not None:
            raise self._failure(str(self._commit_error)) from self._commit_error

    def close(self) -> None:
        """The workers are gone: a save of which all is written gets its name, any other none."""
        self._given_up.set()
        if self._committing is not None:
            self._committing.join()

    def finish(self) -> None:
        """The run has ended: waits, and writes what Hugging Face folders the last one lacks.

        Raises:
            CheckpointError: if either fails.
        """
        self.wait()
        if self._config.save_hf != "last":
            return
        for checkpoint in list_checkpoints(self._output_dir)[:1]:
            for name in self._roles:
                try:
                    export_state(checkpoint.state(name), checkpoint.folder / name)
                except OSError as error:
                    raise self._failure(str(error)) from error

    def _raise_for(self, errors: list[list[str | None]]) -> None:
        error = next(filter(None, chain.from_iterable(errors)), None)
        if error is not None:
            self._given_up.set()
            self._committing = None
            raise self._failure(error)

    def _failure(self, reason: str) -> CheckpointError:
        whole = next((c.folder.name for c in list_checkpoints(self._output_dir)), "none")
        return CheckpointError(
            f"a checkpoint cannot be written into {self._output_dir}: {reason}; the newest whole "
            f"one is {whole}. Make room there; the same command then goes on from it"
        )


def _all_there(paths: list[Path]) -> bool:
    return all(path.exists() for path in paths)
