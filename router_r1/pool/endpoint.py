"""One attempt at one OpenAI-compatible endpoint.

Guarantees: whatever the endpoint does ends in a typed
:class:`~router_r1.pool.outcome.Attempt`; nothing but cancellation
is raised; a reply is a bounded piece of valid text without reasoning that holds no key of ours;
connections are reused. Nothing but the pool file and the key decides what is sent: no variable
meant for another client's accounts is read, and no redirect is followed, which could take the
headers elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

import aiohttp
import httpx2
from multidict import CIMultiDict
from yarl import URL

from router_r1.pool.advice import refused_fields
from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN, Attempt, Outcome
from router_r1.pool.proxies import proxy_for
from router_r1.pool.recording import Request
from router_r1.pool.refusal import (
    outcome_of_status,
    parse_body,
    pause_of,
    status_of_error,
    words_of,
)
from router_r1.pool.reply import LONGEST_BODY_BYTES, read_reply
from router_r1.pool.request_options import RequestOptions
from router_r1.pool.streaming import has_ended, is_stream
from verl.errors import UserError
from verl.utils.redaction import REDACTED, is_secret_name, redact

logger = logging.getLogger(__name__)

_CHECK_TIMEOUT_S = 10.0
# A shorter "key" is a placeholder like "none", which a reply may well say.
_SHORTEST_SECRET = 6
_HEADERS = {
    "User-Agent": "router-r1",
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",
}
_CHAT_PATH = "/chat/completions"
_MODELS_PATH = "/models"
_CUT = (aiohttp.ClientPayloadError, aiohttp.ClientHttpProxyError)
_GARBLED = (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError)


class EndpointError(UserError):
    """A base URL that cannot be one."""


class PoolUnreachableError(UserError):
    """An endpoint of the pool does not answer."""


class Endpoint:
    """A base URL, its key and headers.

    Args:
        base_url: of the OpenAI-compatible API; a query string is kept with every path.
        key_variable: environment variable that the key came from, for messages.
        api_key: None where the server wants none.
        options: their headers are sent with every request, also instead of our own; the values of
            secret ones never leave in a text.
        count_tokens: used where a reply does not say what it bills.

    Raises:
        UserError: if the URL, the proxy for it or a header cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        key_variable: str,
        api_key: str | None,
        options: RequestOptions,
        count_tokens: Callable[[str], int],
    ) -> None:
        self._base_url = str(redact(base_url))
        self._key_variable = key_variable
        self._count_tokens = count_tokens
        base, user = _split(base_url)
        self._headers = CIMultiDict(_HEADERS)
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        elif user:
            self._headers["Authorization"] = user.encode()
        secret_headers = options.secret_headers()
        self._headers.update({**options.extra_headers, **secret_headers})
        secrets = [api_key or "", user.password if user else "", *secret_headers.values()]
        secrets += [value for name, value in parse_qsl(base.query) if is_secret_name(name)]
        long_ones = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        self._secrets = sorted(long_ones, key=len, reverse=True)
        self._proxy = proxy_for(base.scheme, base.hostname or "")
        self._chat_url, self._models_url = (
            URL(urlunsplit(base._replace(path=base.path + path)), encoded=True)
            for path in (_CHAT_PATH, _MODELS_PATH)
        )
        self._session: aiohttp.ClientSession | None = None

    def _connected(self) -> aiohttp.ClientSession:
        """The session; made by the first request, on the event loop that uses it."""
        if self._session is None:
            tls = httpx2.create_ssl_context() if self._chat_url.scheme == "https" else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                auto_decompress=False,
            )
        return self._session

    async def _exchange(
        self, method: str, url: URL, **sent: Any
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """A response, and as much of its body as may be a reply: a stream up to its end marker."""
        received = bytearray()
        async with self._connected().request(
            method, url, proxy=self._proxy, allow_redirects=False, **sent
        ) as response:
            async for chunk in response.content.iter_any():
                received += chunk
                ended = is_stream(received) and has_ended(received, len(chunk))
                if ended or len(received) > LONGEST_BODY_BYTES:
                    break
        return response, bytes(received)

    async def check(self) -> None:
        """Asks for the models; warns of an answer that is none, and raises
        :class:`PoolUnreachableError` if there is no answer or it refuses the key."""
        place = f"the pool endpoint {self._base_url}"
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                response, content = await self._exchange("GET", self._models_url)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            words = self._harmless(str(error)) or f"no reply in {_CHECK_TIMEOUT_S:g} s"
            raise PoolUnreachableError(
                f"{place} does not answer: {words}; start it or correct pool.api_base"
            ) from None  # the cause may quote a key
        if response.status == 401:
            raise PoolUnreachableError(f"{place} refuses the key in ${self._key_variable}")
        if response.status != 200:
            logger.warning("%s answers /models with status %d", *(self._base_url, response.status))
        elif not isinstance(parse_body(content), dict | list):
            logger.warning(
                "%s answers /models with %s that is no JSON; is it the base URL of the API? "
                "Mostly it ends in /v1",
                *(self._base_url, response.content_type),
            )

    async def send(
        self, request: Request, max_tokens: int, stream_fields: Mapping[str, Any]
    ) -> Attempt:
        """Sends one chat completion, with no time limit of its own.

        Args:
            max_tokens: text beyond what so many tokens can hold is cut off.
            stream_fields: of the body; they change the form of a reply, not what it says.
        """
        options = {**request.parameters, **stream_fields}
        body = {"model": request.model, "messages": request.messages, **options}
        try:
            response, content = await self._exchange(
                "POST",
                self._chat_url,
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            garbled = isinstance(error, _GARBLED) and not isinstance(error, _CUT)
            outcome = Outcome.MALFORMED if garbled else Outcome.CONNECTION_ERROR
            return Attempt(outcome, retry=not garbled, detail=self._harmless(str(error)))
        sent = tuple(options)
        if not 200 <= response.status < 300:
            refusal = Attempt(Outcome.SERVER_ERROR, error=parse_body(content))
            return self._failed(refusal, response.status, response, sent)
        prompt = "\n".join(message["content"] for message in request.messages)
        reply = read_reply(content, response.charset, prompt, max_tokens, self._count_tokens)
        if reply.error is not None:
            return self._failed(reply, status_of_error(reply.error), response, sent)
        if reply.outcome is Outcome.MALFORMED:
            words = self._harmless(words_of(parse_body(content)))
            return replace(reply, detail=words or f"{len(content)} bytes that are no completion")
        text = self._without_secrets(reply.text)[: MAX_CHARACTERS_PER_TOKEN * max_tokens]
        return replace(reply, text=text)

    def _failed(
        self,
        reply: Attempt,
        status: int,
        response: aiohttp.ClientResponse,
        sent: tuple[str, ...],
    ) -> Attempt:
        """The attempt whose reply is an error with this status, its own or the response's."""
        words = words_of(reply.error)
        if 300 <= status < 400:
            words = f"redirects to {response.headers.get('Location', 'nowhere')}; correct base_url"
        pause_s = pause_of(response.headers, reply.error)
        outcome, retry = outcome_of_status(status, words, pause_s)
        if outcome is Outcome.INVALID_QUERY and refused_fields(words, sent):
            outcome = Outcome.REFUSED
        # What was billed is not bought a second time: the budget has set one call aside.
        retry = retry and not (reply.prompt_tokens or reply.completion_tokens)
        return replace(
            reply,
            outcome=outcome,
            retry=retry,
            retry_after_s=pause_s if retry else 0.0,
            detail=self._harmless(f"{status}: {words}" if words else f"status {status}"),
            error=None,  # what it holds may quote a key
        )

    def _without_secrets(self, text: str) -> str:
        text = text.encode(errors="replace").decode()  # JSON can hold halves of characters
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def _harmless(self, text: str) -> str:
        """Words for a person to read: one line, without secrets and control characters."""
        printable = "".join(c if c.isprintable() else " " for c in self._without_secrets(text))
        return " ".join(str(redact(printable)).split())

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()


def _split(base_url: str) -> tuple[SplitResult, aiohttp.BasicAuth | None]:
    """The URL without what does not belong to its place, and the user that it names."""
    shown = redact(base_url)
    try:
        parts = urlsplit(base_url.strip())
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise EndpointError(f"{shown} is no URL: {error}; correct api_base or base_url") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(
            f"{shown} is no base URL; it begins with http:// or https:// and a host, as in "
            "https://host/v1"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix(_CHAT_PATH)
    user = None
    if parts.username:
        user = aiohttp.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return parts._replace(netloc=host + port, path=path, fragment=""), user
