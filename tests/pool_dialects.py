"""Endpoints as the well-known providers behave: what they refuse, in their words, and how they
answer."""

from __future__ import annotations

from typing import Any

from tests.pool_stub import Answer, Behaviour, Sent, completion, error, ok, stream

_THOUGHT = "The author of Dune is Frank Herbert."


def openrouter(sent: Sent) -> Answer:
    """Errors of the provider behind it within a 200; comments keep streams alive."""
    if sent.body["model"].endswith(":free"):
        raw = {"raw": "free tier is busy", "provider_name": "Chutes"}
        return Answer(
            {"error": {"message": "Provider returned error", "code": 429, "metadata": raw}}
        )
    message = {"content": "Herbert", "reasoning": _THOUGHT}
    if sent.body.get("stream"):
        events = [
            {"choices": [{"delta": {"role": "assistant", "content": "", "reasoning": _THOUGHT}}]},
            {"choices": [{"delta": {"content": "Herbert"}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 40}},
        ]
        return stream(*events, comment=": OPENROUTER PROCESSING\n\n")
    return completion(message, "stop", 9, 40)


def azure(sent: Sent) -> Answer:
    """A path per deployment, the version in the query, the key in a header of its own; reasoning
    models take neither ``max_tokens`` nor sampling parameters."""
    if "api-version" not in sent.query or "/deployments/" not in sent.path:
        return error(404, "Resource not found", code="404")
    if not sent.headers.get("api-key"):
        return error(401, "Access denied due to invalid subscription key", code="401")
    if "/o4-mini/" not in sent.path:
        return ok()
    code = {"type": "invalid_request_error", "code": "unsupported_parameter"}
    if "max_tokens" in sent.body:
        words = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."
        )
        return error(400, words, param="max_tokens", **code)
    for name in ("temperature", "top_p"):
        if name in sent.body:
            words = f"Unsupported parameter: '{name}' is not supported with this model."
            return error(400, words, param=name, **code)
    return completion({"content": "Herbert"}, "stop", 9, 40)


def mistral(sent: Sent) -> Answer:
    """Knows no ``seed``; reasoning models answer in parts."""
    if sent.body.get("seed") is not None:
        detail = [
            {
                "type": "extra_forbidden",
                "loc": ["body", "seed"],
                "msg": "Extra inputs are not permitted",
                "input": 42,
            }
        ]
        body = {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}
        return Answer(body, 422)
    if not sent.body["model"].startswith("magistral"):
        return ok()
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": _THOUGHT}]}
    parts = [thinking, {"type": "text", "text": "Herbert"}]
    return completion({"content": parts}, "stop", 9, 40)


def ollama(sent: Sent) -> Answer:
    """Wants no key; says which model it lacks."""
    if sent.body["model"] == "no-such:1b":
        words = 'model "no-such:1b" not found, try pulling it first'
        return error(404, words, type="not_found_error", param=None, code=None)
    thinks = sent.body.get("reasoning_effort") != "none"
    return ok(reasoning=_THOUGHT) if thinks else ok()


def vllm(sent: Sent) -> Answer:
    """Without a reasoning parser, the thought stands in the text, its opening tag in the prompt."""
    if len(sent.body["messages"][0]["content"]) > 4000:
        words = (
            "'max_tokens' or 'max_completion_tokens' is too large: 512. This model's maximum "
            "context length is 1024 tokens and your request has 999 input tokens"
        )
        return Answer({"object": "error", "message": words, "type": "BadRequestError", "code": 400})
    template = sent.body.get("chat_template_kwargs", {})
    if template.get("enable_thinking") is False:
        return ok()
    return completion({"content": f"{_THOUGHT}\n</think>\n\nHerbert"}, "stop", 9, 40)


def refusing(*fields: str) -> Behaviour:
    """Takes none of ``fields``, and says so as FastAPI does."""

    def answer(sent: Sent) -> Answer:
        bad = [name for name in fields if name in sent.body]
        return Answer({"detail": f"extra field {bad}"}, 422) if bad else ok()

    return answer


def only_streaming(sent: Sent) -> Answer:
    """Refuses requests that do not stream."""
    if not sent.body.get("stream"):
        return error(400, "This model only supports streaming, please set stream=True")
    choices: list[dict[str, Any]] = [{"delta": {"content": "Herbert"}, "finish_reason": "stop"}]
    return stream({"choices": choices}, {"choices": [], "usage": {"completion_tokens": 2}})


DIALECTS: dict[str, Behaviour] = {
    "openrouter": openrouter,
    "azure": azure,
    "mistral": mistral,
    "ollama": ollama,
    "vllm": vllm,
}
