"""Chat-completion requests and bodies, in the shape of the OpenAI API.

Guarantees: a parameter that would change the result and is not supported is refused, never
ignored; plain and streamed completions of a trajectory carry the same text.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from router_r1.inference.record import final_answer, sampled_tokens
from router_r1.serve.errors import APIError, malformed
from verl.trajectory import Trajectory, TrajectoryStatus

MAX_TEMPERATURE = 2.0
# Parameters with one supported value; null and leaving them out are always fine.
_FIXED: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


@dataclass(frozen=True)
class ChatRequest:
    """What a client asks for; None leaves a value to the server's own settings.

    Attributes:
        model: its name.
        question: the text of the last user message.
        stream, include_usage: whether to stream, and to end the stream with the usage.
        temperature, top_p: sampling.
        max_tokens: bound of the trajectory after its prompt, replies included.
    """

    model: str
    question: str
    stream: bool = False
    include_usage: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


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
        if (value := data.get(name)) is not None and value not in allowed:
            raise APIError(400, f"{name} is not supported", "unsupported_parameter", param=name)
    options = data.get("stream_options") or {}
    if not isinstance(options, dict):
        raise malformed("stream_options must be an object", "stream_options")
    return ChatRequest(
        model=model,
        question=_question(data.get("messages")),
        stream=_flag(data, "stream"),
        include_usage=_flag(options, "include_usage"),
        temperature=_number(data, "temperature", 0.0, MAX_TEMPERATURE),
        top_p=_number(data, "top_p", 1e-6, 1.0),
        max_tokens=_max_tokens(data),
    )


def _question(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise malformed("messages must be a list with at least one message", "messages")
    if not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
        raise malformed("each message must be an object with a role", "messages")
    asked = [message for message in messages if message["role"] == "user"]
    if not asked:
        raise malformed("messages must hold a user message: the question", "messages")
    content = asked[-1].get("content")
    if isinstance(content, list):
        content = "".join(map(_text_part, content))
    if not isinstance(content, str) or not content.strip():
        raise malformed("the last user message has no text", "messages")
    return content


def _text_part(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise malformed("a message may hold text only", "messages")


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
    """

    def __init__(self, identifier: str, model: str) -> None:
        self._shared = {"id": identifier, "created": int(time.time()), "model": model}

    def whole(self, trajectory: Trajectory, reasoning: str) -> dict[str, Any]:
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
        }

    def chunk(self, **delta: str) -> dict[str, Any]:
        """One chunk of a streamed completion, with ``delta`` of the message."""
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def last_chunks(self, trajectory: Trajectory, include_usage: bool) -> list[dict[str, Any]]:
        """Answer, end and, if wanted, usage."""
        end = self._chunk([{"index": 0, "delta": {}, "finish_reason": _reason(trajectory)}])
        end["router"] = routing(trajectory)
        chunks = [self.chunk(content=final_answer(trajectory) or ""), end]
        if include_usage:
            chunks.append({**self._chunk([]), "usage": usage(trajectory)})
        return chunks

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._shared, "object": "chat.completion.chunk", "choices": choices}


def usage(trajectory: Trajectory) -> dict[str, Any]:
    """The router's own tokens, and what the pool took; ``cost``: completion tokens x $ per 1M."""
    prompt, completion = len(trajectory.prompt_ids), sampled_tokens(trajectory)
    extras = trajectory.extras
    calls = extras["calls"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "pool": {
            "calls": len(calls),
            "failed_calls": extras["failed_calls"],
            "prompt_tokens": sum(call["prompt_tokens"] for call in calls),
            "completion_tokens": sum(call["completion_tokens"] for call in calls),
            "cost": extras["cost"],
            "dollars": extras["dollars"],
        },
    }


def routing(trajectory: Trajectory) -> dict[str, Any]:
    """How the trajectory went: its end, and each call without its reply."""
    return {
        "status": trajectory.status.value,
        "turns": trajectory.extras["num_turns"],
        "calls": [
            {name: value for name, value in call.items() if name != "reply"}
            for call in trajectory.extras["calls"]
        ],
    }


def _reason(trajectory: Trajectory) -> str:
    return "stop" if trajectory.status is TrajectoryStatus.ANSWERED else "length"
