"""Chat-completion requests and bodies, in the shape of the OpenAI API.

Guarantees: a parameter that would change the result and is not supported is refused, one that is
not known is listed in the answer's ``warnings``; plain and streamed completions of a trajectory
carry the same text.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from router_r1.inference.record import final_answer
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.serve.conversation import Conversation, read_conversation
from router_r1.serve.errors import APIError, malformed, unknown_model
from router_r1.serve.stream import Event
from verl.interfaces import RolloutOptions
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
# About the caller or the transport; they have no say in the result.
_HARMLESS = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier"})
# Fields of a request that have the names and meanings of the rollout's options.
_OPTIONS = {option.name for option in fields(RolloutOptions)}
_MAX_SEED = 2**63 - 1
_SHOWN_CHARACTERS = 64
_AT_LEAST_1 = "must be a whole number, 1 or more"
_COST_COE = "a number from 0 to 1, what cost counts beside a right answer"


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks for.

    Attributes:
        conversation: from which the router's question is made.
        stream, include_usage: whether to stream, and to end the stream with the usage.
        options: those of :class:`RolloutOptions` that it sets; the others are the server's own.
            Equal requests with equal seeds are sampled alike.
        cost_coe: what cost counts beside a right answer, in [0, 1]; None leaves it to the server's
            own settings.
        warnings: fields that are ignored.
    """

    conversation: Conversation
    stream: bool = False
    include_usage: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    cost_coe: float | None = None
    warnings: tuple[str, ...] = ()


class _StreamOptions(BaseModel, strict=True):
    include_usage: bool | None = Field(None, description="must be true or false")


class _Body(BaseModel, strict=True):
    """The fields that are read; a description ends the sentence that refuses another value."""

    model: str = Field(description="must be a string")
    messages: Any = None
    stream: bool | None = Field(None, description="must be true or false")
    stream_options: _StreamOptions | None = Field(None, description="must be an object")
    temperature: float | None = Field(
        None,
        ge=0,
        le=MAX_TEMPERATURE,
        description=f"must be a number from 0 to {MAX_TEMPERATURE:g}",
    )
    top_p: float | None = Field(None, ge=1e-6, le=1, description="must be a number from 1e-06 to 1")
    top_k: int | None = Field(
        None, ge=-1, lt=2**31, description=f"must be a whole number from -1 to {2**31 - 1}"
    )
    seed: int | None = Field(
        None,
        ge=-_MAX_SEED,
        le=_MAX_SEED,
        description=f"must be a whole number from {-_MAX_SEED} to {_MAX_SEED}",
    )
    cost_coe: float | None = Field(None, ge=0, le=1, description=f"must be {_COST_COE}")
    max_completion_tokens: int | None = Field(None, ge=1, description=_AT_LEAST_1)
    max_tokens: int | None = Field(None, ge=1, description=_AT_LEAST_1)


_WANTED = {
    name: read.description
    for model in (_Body, _StreamOptions)
    for name, read in model.model_fields.items()
}


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises an :class:`APIError` 400 if there is none."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed("the body is not JSON") from error
    if not isinstance(data, dict):
        raise malformed("the body must be a JSON object")
    return data


def parse_chat_request(body: bytes, served: str) -> ChatRequest:
    """Reads a request's body; an :class:`APIError` 400 names the field at fault, a 404 a model that
    is not ``served``."""
    data = read_object(body)
    try:
        read = _Body.model_validate(data)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][-1])
        raise malformed(f"{name} {_WANTED[name]}", name) from error
    for name, allowed in _FIXED.items():
        if (value := data.get(name)) is not None and not _is_one_of(value, allowed):
            raise APIError(400, f"{name} is not supported", "unsupported_parameter", param=name)
    options = read.model_dump(include=_OPTIONS, exclude_none=True)
    if read.max_completion_tokens is not None:
        options["max_tokens"] = read.max_completion_tokens
    if read.top_k == 0:  # servers differ in what switches it off
        options["top_k"] = -1
    return ChatRequest(
        conversation=read_conversation(read.messages),
        stream=bool(read.stream),
        include_usage=bool(read.stream_options and read.stream_options.include_usage),
        options=options,
        cost_coe=_cost_coe(read, served),
        warnings=unknown_fields(data, _Body.model_fields.keys() | _FIXED.keys() | _HARMLESS),
    )


def _cost_coe(read: _Body, served: str) -> float | None:
    """From the field of that name, or from that of the model: ``served@0.6``."""
    if read.model == served:
        return read.cost_coe
    name, separator, text = read.model.rpartition("@")
    if name != served or not separator:
        raise unknown_model(read.model, served)
    try:
        cost_coe = float(text)
    except ValueError:
        raise unknown_model(read.model, served) from None
    if not 0.0 <= cost_coe <= 1.0:
        raise malformed(f"the model {read.model!r} must end in @ and {_COST_COE}", "model")
    if read.cost_coe not in (None, cost_coe):
        raise malformed(
            f"cost_coe is {read.cost_coe:g}, and {cost_coe:g} in the model's name", "cost_coe"
        )
    return cost_coe


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Equality that tells ``true`` from 1."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool) for other in allowed
    )


def unknown_fields(data: dict[str, Any], known: Set[str]) -> tuple[str, ...]:
    """A warning for each field of a request that is set and not known."""
    unknown = sorted(
        name for name, value in data.items() if name not in known and value is not None
    )
    return tuple(
        f"{name[:_SHOWN_CHARACTERS]!r} is not known here and is ignored" for name in unknown
    )


class Completion:
    """Builds the bodies of one completion, under an id of its own; where there are no warnings, the
    field is left out."""

    def __init__(self, model: str, warnings: Sequence[str] = ()) -> None:
        identifier = f"chatcmpl-{uuid.uuid4().hex}"
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

    def told(self, reasoning: str, event: Event | None) -> dict[str, Any]:
        """The chunk of what a :class:`~router_r1.serve.stream.StreamObserver` tells."""
        chunk = self.chunk(reasoning_content=reasoning) if reasoning else self.chunk()
        return chunk if event is None else chunk | {"router": event}

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
    prompt, completion = len(trajectory.prompt_ids), sum(trajectory.response_mask)
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
    """How the trajectory went: its end, what cost counted for it (null where the router is not told
    that), and each call without its reply."""
    return {
        "status": trajectory.status.value,
        "cost_coe": trajectory.record.cost_coe,
        "turns": len(trajectory.record.turns),
        "calls": [
            {name: value for name, value in call.items() if name != "reply"}
            for call in trajectory.record.calls_to_json()
        ],
    }


def _reason(trajectory: Trajectory[RoutedTrajectory]) -> str:
    return "stop" if trajectory.status is TrajectoryStatus.ANSWERED else "length"
