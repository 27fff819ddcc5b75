"""An OpenAI-compatible HTTP server whose LLMs are simulated, with faults on request.

Endpoints: ``POST /v1/chat/completions``,
``GET /v1/models``, ``GET /health``, and ``POST /admin/faults`` / ``DELETE /admin/faults``.

Guarantees: replies come from one :class:`ReplySource` and depend on the request alone; the server
ends with the process that started it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from aiohttp import web

from router_r1.pool.config import QUERY_MARKER

logger = logging.getLogger(__name__)

FAULT_KINDS = (
    "status_500",
    "status_429",
    "hang",
    "cut",
    "malformed_json",
    "missing_usage",
    "empty_choices",
)


@dataclass(frozen=True)
class SimulatedReply:
    """What a simulated LLM answers, and what it bills."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float


class ReplySource(Protocol):
    """Knows what each LLM says."""

    def reply(self, llm: str, query: str) -> SimulatedReply:
        """A pure function of its arguments; raises KeyError for an unknown LLM."""
        ...


@dataclass
class Fault:
    """A fault in force: ``rate`` of the calls, until ``until`` (monotonic seconds)."""

    kind: str
    rate: float = 1.0
    seed: int = 0
    until: float = float("inf")


class SimulatedPoolServer:
    """The web application.

    Args:
        source: where replies come from.
        models: API model to LLM name.
        time_scale: factor on the simulated latencies; 0 answers at once.
    """

    def __init__(self, source: ReplySource, models: Mapping[str, str], time_scale: float) -> None:
        self._source = source
        self._models = dict(models)
        self._time_scale = time_scale
        self._fault: Fault | None = None
        self._rng = random.Random(0)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._completions),
                web.get("/v1/models", self._list_models),
                web.get("/health", self._health),
                web.post("/admin/faults", self._set_fault),
                web.delete("/admin/faults", self._clear_fault),
            ]
        )
        return app

    async def _list_models(self, _: web.Request) -> web.Response:
        data = [{"id": model, "object": "model"} for model in self._models]
        return web.json_response({"object": "list", "data": data})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"status": "ok", "fault": asdict(self._fault) if self._fault else None}
        )

    async def _set_fault(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("kind") not in FAULT_KINDS:
            return _error(400, f"kind must be one of {', '.join(FAULT_KINDS)}")
        duration = body.get("duration_s")
        until = time.monotonic() + float(duration) if duration is not None else float("inf")
        self._fault = Fault(
            body["kind"], float(body.get("rate", 1.0)), int(body.get("seed", 0)), until
        )
        self._rng = random.Random(self._fault.seed)
        return web.json_response({"status": "set"})

    async def _clear_fault(self, _: web.Request) -> web.Response:
        self._fault = None
        return web.json_response({"status": "cleared"})

    def _fault_of_this_call(self) -> str | None:
        fault = self._fault
        if fault is None or time.monotonic() > fault.until or self._rng.random() >= fault.rate:
            return None
        return fault.kind

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        fault = self._fault_of_this_call()
        if fault == "status_500":
            return _error(500, "simulated server error")
        if fault == "status_429":
            response = _error(429, "simulated rate limit")
            response.headers["Retry-After"] = "0"
            return response
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "malformed_json":
            return web.Response(text='{"choices": [', content_type="application/json")
        body = await request.json()
        model = body.get("model")
        if model not in self._models:
            return _error(404, f"no such model: {model!r}; there are: {', '.join(self._models)}")
        prompt = str(body["messages"][-1]["content"])
        query = prompt.rsplit(QUERY_MARKER, 1)[-1]
        reply = self._source.reply(self._models[model], query)
        await asyncio.sleep(reply.latency_s * self._time_scale)
        return web.json_response(_completion(model, reply, fault))


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


def _completion(model: str, reply: SimulatedReply, fault: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text}
    completion: dict[str, Any] = {
        "id": "chatcmpl-simulated",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }
    if fault == "missing_usage":
        del completion["usage"]
    if fault == "empty_choices":
        completion["choices"] = []
    return completion


async def serve(server: SimulatedPoolServer, host: str, port: int, ready_file: str) -> None:
    """Serves until cancelled or until the parent process is gone; writes the URL when ready."""
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    bound_port = runner.addresses[0][1]
    url = f"http://{host}:{bound_port}/v1"
    temporary = f"{ready_file}.tmp"
    with open(temporary, "w") as file:
        file.write(url)
    os.replace(temporary, ready_file)
    parent = os.getppid()
    try:
        while os.getppid() == parent:
            await asyncio.sleep(1.0)
    finally:
        await runner.cleanup()
