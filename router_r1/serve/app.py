"""The HTTP server around a router.

Endpoints: ``POST /v1/chat/completions``, ``POST /route``, ``GET /v1/models``, ``GET /metrics`` (all
four need the key, where there is one), ``GET /health``, and ``GET /``, a page to ask the router on.

Guarantees: every request ends in an answer or in an error body of the OpenAI API; a client that
goes away cancels its trajectory, in the engine and in the pool; a request that ends, however it
ends, gives back its place; a page of another site cannot ask in its reader's name.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from aiohttp import web

from router_r1.inference.router import OnePreferenceError, QuestionTooLongError, Router
from router_r1.serve.admission import Admission
from router_r1.serve.card import model_card
from router_r1.serve.config import ServerConfig
from router_r1.serve.conversation import fit_conversation
from router_r1.serve.errors import APIError, malformed, too_long, unknown_model
from router_r1.serve.metrics import Metrics
from router_r1.serve.protocol import Completion, parse_chat_request
from router_r1.serve.route import parse_route_request, select_llm
from router_r1.serve.stream import StreamObserver
from router_r1.web.page import HEADERS, THEME, TRAJECTORY_STYLE, inline_page
from verl.trajectory import Trajectory
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError

logger = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = Callable[[StreamObserver], Coroutine[Any, Any, Trajectory]]
_CHAT_PATH, _ROUTE_PATH = "/v1/chat/completions", "/route"
_OPEN_PATHS = ("/", "/health")
_CLIENT_WENT_AWAY = 499
_MAX_BODY_BYTES = 1 << 20
_KEEP_ALIVE_S = 15.0
_SEEDED = "seeded"
_CHAT = Path(__file__).parent / "chat"
_PAGE_HEADERS = {**HEADERS, "Cache-Control": "no-cache"}


class RouterServer:
    """Serves one router; to be made, started and stopped on the router's event loop."""

    def __init__(self, router: Router, config: ServerConfig) -> None:
        self._router = router
        self._config = config
        self.metrics = Metrics()
        self._admission = Admission(config.max_concurrency, config.max_queue, self.metrics)
        self._engine_died = False
        self._runner: web.AppRunner | None = None
        self._started = int(time.time())

    async def start(self) -> str:
        """Starts to listen; returns the base URL for clients."""
        config = self._config
        app = web.Application(
            client_max_size=_MAX_BODY_BYTES, middlewares=[self._respond, self._authenticate]
        )
        app.router.add_get("/", self._page)
        app.router.add_post(_CHAT_PATH, self._chat)
        app.router.add_post(_ROUTE_PATH, self._route)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{model}", self._model)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,  # when the client goes away
            shutdown_timeout=config.shutdown_grace_s,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, config.host, config.port).start()
        host = f"[{config.host}]" if ":" in config.host else config.host
        return f"http://{host}:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Takes no more requests, lets those under way end, and cancels what is then left."""
        if self._runner is not None:
            await self._runner.cleanup()

    # -- middlewares: outermost first -------------------------------------------------------

    @web.middleware
    async def _respond(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Makes bodies of errors, and counts answers and routes."""
        start = time.monotonic()
        status = _CLIENT_WENT_AWAY
        try:
            response = await handler(request)
            status = response.status
            return response
        except ConnectionError:  # it went away while we wrote
            return web.Response(status=_CLIENT_WENT_AWAY)
        except Exception as error:
            told = self._api_error(error)
            status = told.status
            headers = {"Retry-After": "1"} if status == 429 else None
            return web.json_response(told.body(), status=status, headers=headers)
        finally:
            if request.path in (_CHAT_PATH, _ROUTE_PATH):
                seconds = time.monotonic() - start
                self.metrics.count_request(status, seconds)
                logger.info("%s %s: %d after %.2f s", request.method, request.path, status, seconds)

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN_PATHS:
            return await handler(request)
        # Browsers send this by themselves, and pages cannot change it.
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise APIError(403, "pages of other sites may not ask this server", "foreign_page")
        key = self._config.api_key
        if key is not None:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.strip().encode(errors="replace"), key.encode())
            if scheme.lower() != "bearer" or not is_right:
                raise APIError(401, "a valid API key is needed", "invalid_api_key")
        return await handler(request)

    def _api_error(self, error: Exception) -> APIError:
        """What the client is told of an error; ours are logged."""
        if isinstance(error, APIError):
            return error
        if isinstance(error, web.HTTPException):  # aiohttp's own: no such path, too large, …
            return APIError(error.status, error.reason, error.reason.lower().replace(" ", "_"))
        if isinstance(error, QuestionTooLongError):
            return too_long(str(error), "messages")
        if isinstance(error, OnePreferenceError):
            return malformed(str(error), "cost_coe")
        self._engine_died |= isinstance(error, EngineDeadError)
        logger.error("a request failed", exc_info=error)
        if isinstance(error, RolloutEngineError):
            return APIError(503, "the router's engine has failed", "engine_error", "server_error")
        return APIError(500, "internal error", "internal_error", "server_error")

    # -- endpoints --------------------------------------------------------------------------

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=chat_page(), content_type="text/html", headers=_PAGE_HEADERS)

    async def _health(self, _: web.Request) -> web.Response:
        if self._engine_died:
            return web.json_response({"status": "the engine has died"}, status=503)
        return web.json_response({"status": "ok", "in_flight": self.metrics.in_flight})

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model_card]})

    async def _model(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        if model != self._config.model_name:
            raise unknown_model(model, self._config.model_name)
        return web.json_response(self._model_card)

    @cached_property
    def _model_card(self) -> dict[str, Any]:
        return model_card(self._config.model_name, self._started, self._router.settings)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chat = parse_chat_request(await request.read(), self._config.model_name)
        router, settings = self._router, self._router.settings
        fitted = fit_conversation(
            chat.conversation, router.prompt_length, settings.max_start_length, settings.tags
        )
        rollout = router.request(fitted.question, chat.cost_coe)
        if "seed" in chat.options:  # the noise hangs on seed and uid: not on who asked before
            rollout = replace(rollout, uid=_SEEDED)
        answer = partial(router.answer, rollout, options=replace(settings.options, **chat.options))
        completion = Completion(self._config.model_name, (*fitted.warnings, *chat.warnings))
        async with self._admission.slot():
            if chat.stream:
                return await self._stream(request, completion, answer, chat.include_usage)
            reasoning: list[str] = []
            observer = StreamObserver(
                lambda text, _: reasoning.append(text), self.metrics.count_call
            )
            trajectory = await answer(observer)
            return web.json_response(completion.whole(trajectory, "".join(reasoning)))

    async def _route(self, request: web.Request) -> web.Response:
        asked = parse_route_request(await request.read())
        async with self._admission.slot():
            return web.json_response(await select_llm(self._router, asked, self.metrics.count_call))

    async def _stream(
        self, request: web.Request, completion: Completion, answer: Answer, include_usage: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        await _send(response, completion.chunk(role="assistant", content=""))
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        observer = StreamObserver(
            lambda text, event: chunks.put_nowait(completion.told(text, event)),
            self.metrics.count_call,
        )
        task = asyncio.create_task(answer(observer))
        task.add_done_callback(lambda _: chunks.put_nowait(None))
        try:
            await _send_chunks(response, chunks)
            for chunk in completion.last_chunks(await task, include_usage):
                await _send(response, chunk)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # the status is out already
            await _send(response, self._api_error(error).body())
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@cache
def chat_page() -> str:
    """The page as HTML. It is the same for everyone, holds no key and no setting, loads nothing,
    and may speak to its own server only."""
    styles = [THEME, TRAJECTORY_STYLE, _CHAT / "page.css"]
    return inline_page(_CHAT / "page.html", _CHAT / "page.js", styles, "connect-src 'self'")


async def _send_chunks(
    response: web.StreamResponse, chunks: asyncio.Queue[dict[str, Any] | None]
) -> None:
    """Sends chunks until None comes; a comment now and then keeps proxies from hanging up."""
    while True:
        try:
            chunk = await asyncio.wait_for(chunks.get(), _KEEP_ALIVE_S)
        except TimeoutError:
            await response.write(b": waiting for the pool\n\n")
            continue
        if chunk is None:
            return
        await _send(response, chunk)


async def _send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
