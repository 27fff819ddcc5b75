"""vLLM's engine stepped by a thread of this process.

vLLM's ``AsyncLLM`` starts a process for its core and, on a CPU, another for its worker. In a Ray
actor each imports vllm anew, 12 s of CPU time, and every step crosses to them and back. Here all of
it is in one process.

Guarantees: everything that touches the engine happens in one thread, between two steps; requests
that come while a step runs join the next one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import AutoConfig

from verl.utils.unused_libraries import not_found

if TYPE_CHECKING:  # importing vllm takes seconds and reads the environment
    from vllm import RequestOutput, TokensPrompt
    from vllm import SamplingParams as VLLMSamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

logger = logging.getLogger(__name__)
_Command = Callable[["LLMEngine"], Any]


class _Receiver(NamedTuple):
    """Where a request's outputs go; an exception ends it."""

    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[RequestOutput | Exception]


class InlineEngine:
    """The part of ``AsyncLLM`` that a replica uses, under its names; raises whatever vLLM raises
    when it does not start.

    Args:
        arguments: of vLLM's ``EngineArgs``.
        cpu_threads: OpenMP threads of a step; None leaves them as they are.
    """

    def __init__(self, arguments: dict[str, Any], cpu_threads: int | None) -> None:
        self._commands: queue.SimpleQueue[tuple[_Command, Future[Any]] | None] = queue.SimpleQueue()
        self._receivers: dict[str, _Receiver] = {}
        self._failure: Exception | None = None
        self._paused = False
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run,
            args=(arguments, cpu_threads, started),
            name="vllm-engine",
            daemon=True,
        )
        self._thread.start()
        started.result()

    # -- the engine's thread ---------------------------------------------------------------

    def _run(
        self, arguments: dict[str, Any], cpu_threads: int | None, started: Future[None]
    ) -> None:
        try:
            engine = _start(arguments, cpu_threads)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            self._serve(engine)
        except Exception as error:
            logger.exception("the vLLM engine has died")
            self._failure = error
            self._fail_all(error)
        finally:
            engine.engine_core.shutdown()

    def _serve(self, engine: LLMEngine) -> None:
        """Steps while there are requests and does what is asked for in between."""
        while True:
            for command in self._take(wait=not self._has_work(engine)):
                if command is None:
                    return
                _execute(*command, engine)
            if self._has_work(engine):
                self._deliver(engine.step())

    def _has_work(self, engine: LLMEngine) -> bool:
        return not self._paused and engine.has_unfinished_requests()

    def _take(self, wait: bool) -> list[tuple[_Command, Future[Any]] | None]:
        """All commands there are; with ``wait`` at least one."""
        commands = [self._commands.get()] if wait else []
        with suppress(queue.Empty):
            while True:
                commands.append(self._commands.get_nowait())
        return commands

    def _deliver(self, outputs: list[Any]) -> None:
        """One wake-up for each event loop, however many outputs it gets."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Receiver, Any]]] = {}
        for output in outputs:
            receiver = self._receivers.get(output.request_id)
            if receiver is not None:  # its reader may have gone meanwhile
                by_loop.setdefault(receiver.loop, []).append((receiver, output))
        for loop, pairs in by_loop.items():
            loop.call_soon_threadsafe(_put_all, pairs)

    def _fail_all(self, error: Exception) -> None:
        """Nobody waits for an engine that is gone."""
        for receiver in list(self._receivers.values()):
            receiver.loop.call_soon_threadsafe(receiver.outputs.put_nowait, error)
        for command in self._take(wait=False):
            if command is not None:
                command[1].set_exception(error)

    # -- callers ---------------------------------------------------------------------------

    async def _ask(self, command: _Command) -> Any:
        """What ``command`` returns, once the engine's thread has executed it."""
        done: Future[Any] = Future()
        self._commands.put((command, done))
        if self._failure is not None:  # nobody executes it
            self._fail_all(self._failure)
        return await asyncio.wrap_future(done)

    async def generate(
        self, prompt: TokensPrompt, params: VLLMSamplingParams, request_id: str
    ) -> AsyncIterator[RequestOutput]:
        """Outputs of one request, as ``params.output_kind`` says; leaving early aborts it. A
        ValueError if vLLM refuses the request."""
        receiver = _Receiver(asyncio.get_running_loop(), asyncio.Queue())
        self._receivers[request_id] = receiver
        finished = False
        try:
            await self._ask(lambda engine: engine.add_request(request_id, prompt, params))
            while not finished:
                output = await receiver.outputs.get()
                if isinstance(output, Exception):
                    raise output
                finished = output.finished
                yield output
        finally:
            del self._receivers[request_id]
            if not finished:
                self._commands.put((lambda engine: engine.abort_request([request_id]), Future()))

    async def check_health(self) -> None:
        """Returns between two steps; raises what the engine died of."""
        await self._ask(lambda engine: None)  # noqa: ARG005

    async def collective_rpc(self, method: str, kwargs: dict[str, Any] | None = None) -> list[Any]:
        """Calls a method of vLLM's worker."""
        results: list[Any] = await self._ask(
            lambda engine: engine.collective_rpc(method, kwargs=kwargs)
        )
        return results

    async def pause_generation(self, *, mode: str, clear_cache: bool) -> None:
        """Takes no step more until :meth:`resume_generation`; requests stay as they are, which is
        ``mode`` "keep" without ``clear_cache``, the only one there is here."""
        assert (mode, clear_cache) == ("keep", False)
        await self._ask(lambda _: self._set_paused(True))

    async def resume_generation(self) -> None:
        """Goes on with all requests."""
        await self._ask(lambda _: self._set_paused(False))

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused

    async def reset_prefix_cache(self, reset_running_requests: bool) -> None:
        """Forgets cached prefixes; with ``reset_running_requests`` also what requests under way
        have cached, which they compute anew."""
        await self._ask(lambda engine: engine.reset_prefix_cache(reset_running_requests))

    async def sleep(self, level: int) -> None:
        """Frees GPU memory."""
        await self._ask(lambda engine: engine.sleep(level))

    async def wake_up(self, tags: list[str]) -> None:
        """Takes GPU memory back."""
        await self._ask(lambda engine: engine.wake_up(tags))

    def shutdown(self) -> None:
        """Ends the engine after its present step."""
        self._commands.put(None)
        self._thread.join()


def _start(arguments: dict[str, Any], cpu_threads: int | None) -> LLMEngine:
    with not_found("scipy"):  # only what resamples audio imports it
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

    if cpu_threads is not None:
        import torch

        torch.set_num_threads(cpu_threads)  # OpenMP keeps it for each thread that calls it
    _import_model(arguments["model"])
    return LLMEngine.from_engine_args(EngineArgs(**arguments))


def _import_model(path: str) -> None:
    """Imports the classes of a model, which this process needs anyway. Where it finds no cache of
    its own, vLLM would start a process to look at them, for 10 s of CPU time."""
    from vllm import ModelRegistry

    for architecture in AutoConfig.from_pretrained(path).architectures or ():
        if architecture in ModelRegistry.models:
            model_class = ModelRegistry.models[architecture].load_model_cls()
            ModelRegistry.register_model(architecture, model_class)


def _execute(command: _Command, done: Future[Any], engine: LLMEngine) -> None:
    """Answers by ``done``, unless its caller has gone."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(command(engine))
    except Exception as error:
        done.set_exception(error)


def _put_all(pairs: list[tuple[_Receiver, Any]]) -> None:
    for receiver, output in pairs:
        receiver.outputs.put_nowait(output)
