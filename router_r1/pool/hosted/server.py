"""An OpenAI-compatible HTTP server whose LLMs are played, with faults on request.

Endpoints: ``POST /v1/chat/completions``, ``GET /v1/models``, ``GET /health``, and
``POST /admin/faults`` / ``DELETE /admin/faults``.

Guarantees: replies come from one pure function and depend on the request alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from router_r1.pool.config import QUERY_MARKER
from router_r1.pool.hosted.faults import FAULT_KINDS, Faults, change_text, respond

_HOST = "127.0.0.1"


@dataclass(frozen=True)
class SimulatedReply:
    """What a simulated LLM answers, and what it bills."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    latency_s: float


# What the LLM of a name says to a query, a pure function; KeyError for a name that there is not.
Reply = Callable[[str, str], SimulatedReply]


class SimulatedPoolServer:
    """The web application; ``models`` maps API model to LLM name, ``time_scale`` is a factor on the
    simulated latencies, and 0 answers at once."""

    def __init__(self, reply: Reply, models: Mapping[str, str], time_scale: float) -> None:
        self._reply = reply
        self._models = dict(models)
        self._time_scale = time_scale
        self._faults: Faults | None = None

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
        faults = self._faults.rates if self._faults else {}
        return web.json_response({"status": "ok", "faults": faults})

    async def _set_fault(self, request: web.Request) -> web.Response:
        body = await request.json()
        rates = {str(kind): float(rate) for kind, rate in body["rates"].items()}
        unknown = sorted(set(rates) - set(FAULT_KINDS))
        if unknown:
            return _error(400, f"no such fault: {unknown}; there are: {', '.join(FAULT_KINDS)}")
        duration = body.get("duration_s")
        self._faults = Faults(
            rates,
            random.Random(int(body.get("seed", 0))),
            float(body.get("retry_after_s", 0.0)),
            time.monotonic() + float(duration) if duration is not None else float("inf"),
        )
        return web.json_response({"status": "set"})

    async def _clear_fault(self, _: web.Request) -> web.Response:
        self._faults = None
        return web.json_response({"status": "cleared"})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.draw() if self._faults else None
        broken = await self._break(request, fault)
        if broken is not None:
            return broken
        body = await request.json()
        model = body.get("model")
        if model not in self._models:
            return _error(404, f"no such model: {model!r}; there are: {', '.join(self._models)}")
        prompt = str(body["messages"][-1]["content"])
        query = prompt.rsplit(QUERY_MARKER, 1)[-1]
        reply = self._reply(self._models[model], query)
        await asyncio.sleep(reply.latency_s * self._time_scale)
        text = change_text(reply.text, fault, request)
        return respond(_completion(model, text, reply), fault)

    async def _break(self, request: web.Request, fault: str | None) -> web.StreamResponse | None:
        """The response of a fault that leaves no completion."""
        if fault == "status_500":
            return _error(500, "simulated server error")
        if fault == "status_429":
            assert self._faults is not None
            response = _error(429, "simulated rate limit")
            response.headers["Retry-After"] = f"{self._faults.retry_after_s:g}"
            return response
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "malformed_json":
            return web.Response(text='{"choices": [', content_type="application/json")
        if fault in ("error_in_200", "error_in_list"):
            error = {"code": 429, "message": "simulated rate limit", "retry_after": 0}
            body = {"error": error, "choices": []}
            return web.json_response(body if fault == "error_in_200" else [body])
        return None


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


def _completion(model: str, text: str, reply: SimulatedReply) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
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


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    """Serves on a free port of this machine while the block runs; yields the base URL."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        yield f"http://{_HOST}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
