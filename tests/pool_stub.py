"""A stub of an OpenAI-compatible endpoint: real HTTP, with answers that a test decides.

It keeps what it was sent, so that a test can look at paths, headers and bodies.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from router_r1.pool.config import LLMConfig, PoolConfig


@dataclass(frozen=True)
class Sent:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What goes back; ``raw`` instead of JSON, if given."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = "application/json"


Behaviour = Callable[[Sent], Answer]


def ok(content: Any = "Herbert", **message: Any) -> Answer:
    """A completion that bills 9 prompt and 2 completion tokens."""
    return completion({"content": content, **message}, "stop", 9, 2)


def completion(message: dict[str, Any], finish_reason: str, prompt: int, billed: int) -> Answer:
    """A completion."""
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": prompt, "completion_tokens": billed, "total_tokens": prompt + billed}
    return Answer({"choices": [choice], "usage": usage})


def error(status: int, message: str, **more: Any) -> Answer:
    """An error with its status in the status line."""
    return Answer({"error": {"message": message, **more}}, status)


def stream(*events: Any, end: str = "data: [DONE]\n\n", comment: str = "") -> Answer:
    """Events as a server sends them."""
    text = "".join(f"{comment}data: {json.dumps(event)}\n\n" for event in events) + end
    return Answer(raw=text.encode(), content_type="text/event-stream")


def in_turn(*answers: Answer) -> Behaviour:
    """One answer a call; the last repeats."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


class StubEndpoint:
    """A server on a free port; ``url`` is its base URL.

    Args:
        chat: answers completions.
        models: answers ``/models``.
    """

    def __init__(self, chat: Behaviour, models: Behaviour | None = None) -> None:
        self.chat = chat
        self.models = models or (lambda _: Answer({"object": "list", "data": []}))
        self.sent: list[Sent] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Answers anything, under any path."""
        text = await request.text()
        body = json.loads(text) if text else {}
        sent = Sent(request.method, request.path, dict(request.query), request.headers, body)
        if request.method == "GET" and request.path.endswith("/models"):
            return _response(self.models(sent))
        self.sent.append(sent)
        if not request.path.endswith("/chat/completions"):
            return _response(Answer(raw=b"no such path", status=404, content_type="text/plain"))
        return _response(self.chat(sent))


def _response(answer: Answer) -> web.Response:
    body = answer.raw if answer.raw is not None else json.dumps(answer.body).encode()
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(body=body, status=answer.status, headers=headers)


@contextmanager
def stub(chat: Behaviour, models: Behaviour | None = None) -> Iterator[StubEndpoint]:
    """Serves in a thread inside the block."""
    endpoint = StubEndpoint(chat, models)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", endpoint.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=0.1).start()
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield endpoint
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def pool_at(url: str, **changes: Any) -> PoolConfig:
    """A pool of one LLM, "A", at $ 2 per 1M completion and $ 1 per 1M prompt tokens.

    Args:
        changes: fields of the LLM and of the pool.
    """
    names = set(LLMConfig.__dataclass_fields__)
    llm = LLMConfig(
        **{
            "name": "A",
            "model": "a",
            "completion_price": 2.0,
            "prompt_price": 1.0,
            "descriptor": "d",
            **{k: v for k, v in changes.items() if k in names},
        }
    )
    settings = {"request_timeout_s": 5.0, "retry_backoff_s": 0.01, "max_retries": 2}
    settings |= {k: v for k, v in changes.items() if k not in names}
    return PoolConfig(name="stub", llms=[llm], api_base=url, **settings)
