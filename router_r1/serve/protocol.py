"""Chat-completion requests and bodies, in the shape of the OpenAI API.

Guarantees: a parameter that would change the result and is not supported is refused, one that is
not known is listed in the answer's ``warnings``; plain and streamed completions of a trajectory
carry the same text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router_r1.inference.record import final_answer, sampled_tokens
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.serve.conversation import read_conversation
from router_r1.serve.errors import APIError, malformed
from verl.trajectory import Trajectory, TrajectoryStatus

MAX_TEMPERATURE = 2.0
# Parameters with one supported value; null and leaving them out are always fine.
_FIXED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
_READ = frozenset(
    {"model", "messages", "stream", "stream_options", "temperature", "top_p", "top_k", "seed"}
    | {"max_tokens", "max_completion_tokens"}
)
# About the caller or the transport; they have no say in the result.
_HARMLESS = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier"})
_MAX_TOP_K = 2**31 - 1
_MAX_SEED = 2**63 - 1
_SHOWN_CHARACTERS = 64


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks for; None leaves a value to the server's own settings.

    Attributes:
        model: its name.
        question: what the router is asked (see :mod:`router_r1.serve.conversation`).
        stream, include_usage: whether to stream, and to end the stream with the usage.
        temperature, top_p, top_k: sampling; a ``top_k`` of -1 is off.
        max_tokens: bound of the trajectory after its prompt, replies included.
        seed: equal requests with equal seeds are sampled alike; None leaves it to chance.
        warnings: what of the request was not done as a client may expect.
    """

    model: str
    question: str
    stream: bool = False
    include_usage: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    top_k: int | None = None
    seed: int | None = None
    warnings: tuple[str, ...] = ()


def parse_chat_request(body: bytes) -> ChatRequest:
    """Reads a request's body.

    Raises:
        APIError: 400, naming the field at fault.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed("the body is not JSON") from error
    if not isinstance(data, dict):
        raise malformed("the body must be a JSON object")
    model = data.get("model")
    if not isinstance(model, str):
        raise malformed("model must be a string", "model")
    for name, allowed in _FIXED.items():
        if (value := data.get(name)) is not None and not _is_one_of(value, allowed):
            raise APIError(400, f"{name} is not supported", "unsupported_parameter", param=name)
    options = data.get("stream_options") or {}
    if not isinstance(options, dict):
        raise malformed("stream_options must be an object", "stream_options")
    conversation = read_conversation(data.get("messages"))
    return ChatRequest(
        model=model,
        question=conversation.question,
        stream=_flag(data, "stream"),
        include_usage=_flag(options, "include_usage"),
        temperature=_number(data, "temperature", 0.0, MAX_TEMPERATURE),
        top_p=_number(data, "top_p", 1e-6, 1.0),
        max_tokens=_max_tokens(data),
        top_k=_top_k(data),
        seed=_whole_number(data, "seed", -_MAX_SEED, _MAX_SEED),
        warnings=conversation.warnings + _unknown_fields(data),
    )


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Equality that tells ``true`` from 1."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in allowed
    )


def _unknown_fields(data: dict[str, Any]) -> tuple[str, ...]:
    known = _READ | _FIXED.keys() | _HARMLESS
    unknown = sorted(
        name for name, value in data.items() if name not in known and value is not None
    )
    return tuple(
        f"{name[:_SHOWN_CHARACTERS]!r} is not known here and is ignored" for name in unknown
    )


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise malformed(f"{name} must be true or false", name)
    return bool(value)


def _number(data: dict[str, Any], name: str, least: float, most: float) -> float | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise malformed(f"{name} must be a number from {least:g} to {most:g}", name)
    return float(value)


def _whole_number(data: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise malformed(f"{name} must be a whole number from {least} to {most}", name)
    return value


def _top_k(data: dict[str, Any]) -> int | None:
    """Servers differ in what switches it off: -1 or 0."""
    value = _whole_number(data, "top_k", -1, _MAX_TOP_K)
    return -1 if value == 0 else value


def _max_tokens(data: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        if (value := data.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise malformed(f"{name} must be a whole number, 1 or more", name)
            return value
    return None


class Completion:
    """Builds the bodies of one completion.

    Args:
        identifier: of the completion.
        model: as it is served.
        warnings: for the client; the field is left out where there are none.
    """

    def __init__(self, identifier: str, model: str, warnings: Sequence[str] = ()) -> None:
        self._shared = {"id": identifier, "created": int(time.time()), "model": model}
        self._remarks = {"warnings": list(warnings)} if warnings else {}

    def whole(self, trajectory: Trajectory[RoutedTrajectory], reasoning: str) -> dict[str, Any]:
        """The body of a plain completion."""
        message = {
            "role": "assistant",
            "content": final_answer(trajectory) or "",
            "reasoning_content": reasoning,
        }
        return {
            **self._shared,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": _reason(trajectory)}],
            "usage": usage(trajectory),
            "router": routing(trajectory),
            **self._remarks,
        }

    def chunk(self, **delta: str) -> dict[str, Any]:
        """One chunk of a streamed completion, with ``delta`` of the message."""
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def last_chunks(
        self, trajectory: Trajectory[RoutedTrajectory], include_usage: bool
    ) -> list[dict[str, Any]]:
        """Answer, end and, if wanted, usage."""
        end = self._chunk([{"index": 0, "delta": {}, "finish_reason": _reason(trajectory)}])
        end |= {"router": routing(trajectory), **self._remarks}
        chunks = [self.chunk(content=final_answer(trajectory) or ""), end]
        if include_usage:
            chunks.append({**self._chunk([]), "usage": usage(trajectory)})
        return chunks

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._shared, "object": "chat.completion.chunk", "choices": choices}


def usage(trajectory: Trajectory[RoutedTrajectory]) -> dict[str, Any]:
    """The router's own tokens, and what the pool took; ``cost``: completion tokens x $ per 1M."""
    prompt, completion = len(trajectory.prompt_ids), sampled_tokens(trajectory)
    record = trajectory.record
    results = [call.result for call in record.calls]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "pool": {
            "calls": len(results),
            "failed_calls": record.failed_calls,
            "prompt_tokens": sum(result.prompt_tokens for result in results),
            "completion_tokens": sum(result.completion_tokens for result in results),
            "cost": record.cost,
            "dollars": record.dollars,
        },
    }


def routing(trajectory: Trajectory[RoutedTrajectory]) -> dict[str, Any]:
    """How the trajectory went: its end, and each call without its reply."""
    return {
        "status": trajectory.status.value,
        "turns": len(trajectory.record.turns),
        "calls": [
            {name: value for name, value in call.items() if name != "reply"}
            for call in trajectory.record.calls_to_json()
        ],
    }


def _reason(trajectory: Trajectory[RoutedTrajectory]) -> str:
    return "stop" if trajectory.status is TrajectoryStatus.ANSWERED else "length"
