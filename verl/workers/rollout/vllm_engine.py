"""A vLLM engine without Ray, for one process that only generates.

Implements :class:`verl.workers.rollout.local.LocalEngine` on the code that the Ray actors run.
"""

from __future__ import annotations

from collections.abc import Sequence

from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.workers.rollout.errors import RolloutEngineError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica


class VLLMEngine:
    """Starts the engine; generates on any one event loop.

    Raises:
        RolloutEngineError: if it does not start.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        try:
            self._replica = VLLMReplica(settings)
        except Exception as error:  # vLLM raises whatever its parts raise
            reason = str(error).strip().splitlines()
            raise RolloutEngineError(
                f"vLLM does not start with {settings.model_path}: "
                f"{reason[0] if reason else type(error).__name__}"
            ) from error

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`verl.interfaces.GenerationEngine`.

        Raises:
            RolloutEngineError: if the engine refuses the request or has died.
        """
        del session_id  # there is one replica
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            return await self._replica.generate(prompt_ids, sampling, on_tokens)
        except (EngineDeadError, EngineGenerateError, ValueError) as error:
            raise RolloutEngineError(f"the vLLM engine failed: {error}") from error

    async def close(self) -> None:
        """Ends the engine's processes."""
        await self._replica.shutdown()
