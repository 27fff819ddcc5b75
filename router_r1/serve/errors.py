"""Errors as the OpenAI API words them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

INVALID_REQUEST = "invalid_request_error"


@dataclass
class APIError(Exception):
    """What a client is told.

    Attributes:
        status: HTTP status.
        message: for a person.
        code: for a program.
        kind: the API's error type.
        param: the field of the request that is at fault.
    """

    status: int
    message: str
    code: str | None = None
    kind: str = INVALID_REQUEST
    param: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


def malformed(message: str, param: str | None = None) -> APIError:
    """A request that breaks the protocol."""
    return APIError(400, message, "invalid_request", param=param)


def too_long(message: str, param: str) -> APIError:
    """A question whose prompt the router does not accept."""
    return APIError(400, message, "context_length_exceeded", param=param)


def nothing_selected() -> APIError:
    """The router ended without a call of an LLM."""
    return APIError(
        422,
        "the router called no LLM: it answered by itself, or ended without an answer; "
        "/v1/chat/completions gives its answer",
        "no_llm_selected",
    )


def unauthorized() -> APIError:
    """A missing or wrong key; it is not repeated."""
    return APIError(401, "a valid API key is needed", "invalid_api_key")


def foreign_page() -> APIError:
    """A browser asks for a page of another site."""
    return APIError(403, "pages of other sites may not ask this server", "foreign_page")


def unknown_model(model: str, served: str) -> APIError:
    """A model that is not served here."""
    return APIError(
        404,
        f"the model {model!r} is not served here; {served!r} is",
        "model_not_found",
        param="model",
    )


def overloaded() -> APIError:
    """The queue is full."""
    return APIError(
        429, "too many requests are waiting; try again later", "rate_limit_exceeded", "requests"
    )


def engine_failed() -> APIError:
    """The policy's engine cannot generate; the server's log says why."""
    return APIError(503, "the router's engine has failed", "engine_error", "server_error")


def internal_error() -> APIError:
    """A fault of ours; the server's log says which."""
    return APIError(500, "internal error", "internal_error", "server_error")
