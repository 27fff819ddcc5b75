"""One attempt at one OpenAI-compatible endpoint.

Guarantees: whatever the endpoint does ends in a typed :class:`Attempt`; nothing but cancellation
is raised; a reply is a bounded piece of valid text that holds no key of ours; connections are
reused.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from router_r1.pool.outcome import MAX_CHARACTERS_PER_TOKEN, Outcome
from router_r1.pool.recording import Request
from verl.utils.redaction import REDACTED

_RETRIED_STATUS = (408, 409, 429)
_INVALID_QUERY_STATUS = (400, 413, 422)
_NO_KEY = "no-key"
# What the package tells every server about this machine.
_NO_TELEMETRY: Any = {
    f"X-Stainless-{name}": openai.Omit()
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
}


@dataclass(frozen=True)
class Attempt:
    """What one request brought.

    Attributes:
        outcome: OK, or why not.
        retry: whether the same request may succeed later.
        retry_after_s: what the endpoint asked for.
        text, prompt_tokens, completion_tokens, usage_estimated: of an OK one.
    """

    outcome: Outcome
    retry: bool = False
    retry_after_s: float = 0.0
    text: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_estimated: bool = False


def estimate_tokens(text: str) -> int:
    """About four bytes a token, for where no tokenizer is at hand."""
    return (len(text.encode(errors="replace")) + 3) // 4


class Endpoint:
    """A base URL and its key.

    Args:
        base_url: of the OpenAI-compatible API.
        key_variable: environment variable that the key came from, for messages.
        api_key: None where the server wants none.
        count_tokens: used where a reply does not say what it bills.
    """

    def __init__(
        self,
        base_url: str,
        key_variable: str,
        api_key: str | None,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        self.base_url = base_url
        self.key_variable = key_variable
        self._api_key = api_key
        self._count_tokens = count_tokens
        # Time limits and retries are the caller's; aiohttp's transport takes half the CPU.
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or _NO_KEY,
            max_retries=0,
            timeout=None,
            http_client=openai.DefaultAioHttpClient(timeout=None),
            default_headers=_NO_TELEMETRY,
        )

    async def list_models(self, timeout_s: float) -> None:
        """Asks for the models; raises what the openai package raises."""
        await self._client.models.list(timeout=timeout_s)

    async def send(self, request: Request) -> Attempt:
        """Sends one chat completion, with no time limit of its own."""
        body = {"model": request.model, "messages": request.messages, **request.parameters}
        try:
            # The typed method spends a third of a call's time on re-typing its arguments.
            response = await self._client.post(
                "/chat/completions", body=body, cast_to=httpx2.Response
            )
        except openai.APIConnectionError:
            return Attempt(Outcome.CONNECTION_ERROR, retry=True)
        except openai.APIStatusError as error:
            return _failed_status(error.status_code, error.response.headers.get("retry-after"))
        except (openai.OpenAIError, httpx2.HTTPError, ValueError):
            return Attempt(Outcome.MALFORMED)
        return self._read(request, response.content)

    def _read(self, request: Request, content: bytes) -> Attempt:
        """A completion from the body, whatever its content type says."""
        try:
            body = json.loads(content)
            text = body["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return Attempt(Outcome.MALFORMED)
        if not isinstance(text, str):
            return Attempt(Outcome.MALFORMED)
        text = self._bounded(text, request)
        usage = body.get("usage")
        billed = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
        estimated = None in billed
        if estimated:
            prompt = "\n".join(message["content"] for message in request.messages)
            billed = [self._count_tokens(prompt), self._count_tokens(text)]
        prompt_tokens, completion_tokens = billed
        assert prompt_tokens is not None
        assert completion_tokens is not None
        return Attempt(
            Outcome.OK,
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            usage_estimated=estimated,
        )

    def _bounded(self, text: str, request: Request) -> str:
        text = text[: MAX_CHARACTERS_PER_TOKEN * request.parameters["max_tokens"]]
        text = text.encode(errors="replace").decode()  # JSON can hold halves of characters
        return text.replace(self._api_key, REDACTED) if self._api_key else text

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()


def _count(usage: Any, name: str) -> int | None:
    """A token count that can be one."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _failed_status(status: int, retry_after: str | None) -> Attempt:
    retry = status in _RETRIED_STATUS or status >= 500
    if status == 429:
        outcome = Outcome.RATE_LIMITED
    elif retry:
        outcome = Outcome.SERVER_ERROR
    else:
        invalid = status in _INVALID_QUERY_STATUS
        outcome = Outcome.INVALID_QUERY if invalid else Outcome.REFUSED
    return Attempt(outcome, retry, parse_retry_after(retry_after) if retry else 0.0)


def parse_retry_after(value: str | None) -> float:
    """Seconds from a ``Retry-After`` header: a number or an HTTP date (RFC 9110, 10.2.3)."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if seconds == seconds else 0.0
