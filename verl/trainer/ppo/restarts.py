"""A run that loses a worker process goes on from its newest checkpoint, in the same command.

Guarantees: it goes on as the same command given again would, but at most
``trainer.max_restarts`` times; a run that has no checkpoint yet, or does not start, ends with the
error that it met.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verl.config.ppo import TrainerConfig
from verl.errors import UserError
from verl.single_controller.worker_group import WorkerGroupError
from verl.trainer.ppo.resume import newest_resumable
from verl.utils.checkpoints import Checkpoint, list_checkpoints
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError

logger = logging.getLogger(__name__)


class ProcessLostError(Exception):
    """Training has lost a process; ``reason`` is the error to end with if it cannot go on."""

    def __init__(self, reason: UserError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@contextmanager
def noticing_losses() -> Iterator[None]:
    """Training; a start that fails would fail again.

    Raises:
        ProcessLostError: if a rank dies or fails, or an engine that cannot be replaced alone.
            Engines that were lost too often are not worth another start.
    """
    try:
        yield
    except EngineDeadError:
        raise
    except (WorkerGroupError, RolloutEngineError) as error:
        raise ProcessLostError(error) from error


class Restarts:
    """Of one run.

    Attributes:
        taken: so far.
        start: the checkpoint that the run goes on from; None before the first restart.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._limit = config.max_restarts
        self._output_dir = Path(config.default_local_dir)
        self.taken = 0
        self.start: Checkpoint | None = None

    def take(self, lost: ProcessLostError) -> None:
        """One more; everything of the run that lost its process has ended.

        Raises:
            UserError: what the run has met, if it may not or cannot go on.
        """
        newest = newest_resumable(list_checkpoints(self._output_dir))
        if newest is None and self._limit:
            logger.warning("there is no checkpoint to go on from; trainer.save_freq makes them")
        if newest is None or self.taken >= self._limit:
            raise lost.reason
        self.taken += 1
        self.start = newest
        logger.warning(
            "%s; the run goes on after step %d (restart %d of at most %d, trainer.max_restarts)",
            *(str(lost).splitlines()[0].rstrip(":. "), newest.step, self.taken, self._limit),
        )
