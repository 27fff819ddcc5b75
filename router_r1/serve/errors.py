"""Errors as the OpenAI API words them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class APIError(Exception):
    """What a client is told: ``message`` is for a person, ``code`` for a program; ``kind`` is the
    API's error type, ``param`` the field of the request that is at fault."""

    status: int
    message: str
    code: str | None = None
    kind: str = "invalid_request_error"
    param: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def malformed(message: str, param: str | None = None) -> APIError:
    """A request that breaks the protocol."""
    return APIError(400, message, "invalid_request", param=param)


def too_long(message: str, param: str) -> APIError:
    """A question whose prompt the router does not accept."""
    return APIError(400, message, "context_length_exceeded", param=param)


def unknown_model(model: str, served: str) -> APIError:
    """A model that is not served here."""
    return APIError(
        404,
        f"the model {model!r} is not served here; {served!r} is",
        "model_not_found",
        param="model",
    )
