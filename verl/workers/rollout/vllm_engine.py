"""A vLLM engine without Ray, for one process that only generates: the code that Ray actors run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.utils.ctrl_c import sigint_blocked
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica

# What vLLM warns of (a CPU, an eager engine, its own deprecations) is not for who wants an answer.
# Children read the environment too; a user's own values stay.
_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}


class VLLMEngine:
    """Implements :class:`verl.interfaces.GenerationEngine`; generates on any one event loop.

    Raises:
        RolloutEngineError: if it does not start.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        for variable, value in _QUIET.items():
            os.environ.setdefault(variable, value)
        # For what vLLM says before it has read them.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        try:
            with sigint_blocked():
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
            EngineDeadError: if the engine's process is gone, or a step of it has failed.
            RolloutEngineError: if the engine refuses the request.
        """
        del session_id  # there is one replica
        from vllm.v1.engine import exceptions

        try:
            return await self._replica.generate(prompt_ids, sampling, on_tokens)
        except exceptions.EngineDeadError as error:
            raise EngineDeadError("the vLLM engine has died") from error
        except Exception as error:
            # An engine in this process dies of whatever a step of it raises.
            if not await self._lives():
                raise EngineDeadError(f"the vLLM engine has died: {error}") from error
            if isinstance(error, (exceptions.EngineGenerateError, ValueError)):
                raise RolloutEngineError(f"the vLLM engine failed: {error}") from error
            raise

    async def _lives(self) -> bool:
        try:
            return await self._replica.ready()
        except Exception:  # the same
            return False

    async def close(self) -> None:
        """Ends the engine's processes."""
        await self._replica.shutdown()
