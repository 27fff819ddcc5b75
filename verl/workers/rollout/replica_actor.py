"""A replica as a Ray actor: what went wrong in its engine reaches the driver in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.utils.surroundings import SurroundingsError
from verl.workers.rollout.engine_log import account_of
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica

logger = logging.getLogger(__name__)


class VLLMReplicaActor(VLLMReplica):
    """See :class:`VLLMReplica`.

    Raises:
        SurroundingsError: if the node lacks something.
        RolloutEngineError: if the engine does not start.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        try:
            super().__init__(settings)
        except SurroundingsError:
            raise
        except Exception as error:  # vLLM raises whatever its parts raise
            logger.exception("the vLLM engine did not start")
            raise RolloutEngineError(account_of(error)) from error

    async def ready(self) -> bool:
        """See :class:`VLLMReplica`.

        Raises:
            EngineDeadError: if the engine does not run any more.
        """
        with _told_if_dead():
            return await super().ready()

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`VLLMReplica`.

        Raises:
            EngineDeadError: if the engine does not run any more.
        """
        with _told_if_dead():
            return await super().generate(prompt_ids, sampling, on_tokens)


@contextmanager
def _told_if_dead() -> Iterator[None]:
    """Says why the engine died, which vLLM's exception leaves to its log."""
    from vllm.v1.engine import exceptions

    try:
        yield
    except exceptions.EngineDeadError as error:
        raise EngineDeadError(account_of(error)) from error
