"""A replica as a Ray actor: why its engine failed reaches the driver in one line, also where vLLM's
exception only says that another process logged the cause."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from verl.interfaces import GenerationOutput, OnTokens, SamplingParams
from verl.utils.surroundings import SurroundingsError
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError
from verl.workers.rollout.vllm_replica import ReplicaSettings, VLLMReplica

logger = logging.getLogger(__name__)

# vLLM's processes log exceptions line by line: (Worker pid=7) ERROR 11-26 … [core.py:9] Kind: text
_LOGGED_EXCEPTION = re.compile(r".*ERROR .*?\] +((?:\w+\.)*\w*(?:Error|Exception|Interrupt): .*)")
# "See root cause above", "See stack trace (above) for the root cause".
_POINTS_ELSEWHERE = "above"
_READ_BYTES = 2**20


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
        """See :class:`VLLMReplica`; raises :class:`EngineDeadError` if the engine is gone."""
        with _told_if_dead():
            return await super().ready()

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        """See :class:`VLLMReplica`; raises :class:`EngineDeadError` if the engine is gone."""
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


def account_of(error: Exception, log: Path | None = None) -> str:
    """What failed and where more is written, in one line.

    Args:
        error: as it arrived in this process.
        log: of this process and its children, beside that of their errors (.err); by default the
            file that standard output goes to.
    """
    log = log or _standard_output()
    text = str(error).strip().partition("\n")[0]
    account = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if log is None:
        return account
    if _POINTS_ELSEWHERE in text:
        account = _first_logged_exception(log) or account
    return f"{account} (more in {log} and {log.with_suffix('.err').name})"


def _first_logged_exception(log: Path) -> str | None:
    """The one that the others in the last MiB of an engine's log follow from; None without any."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    found = (_LOGGED_EXCEPTION.match(line) for line in lines)
    return next((match[1] for match in found if match), None)


def _standard_output() -> Path | None:
    """A Ray actor's is a file; a terminal or a pipe holds nothing to read."""
    try:
        path = Path(os.readlink("/proc/self/fd/1"))
    except OSError:
        return None
    return path if path.is_file() else None
