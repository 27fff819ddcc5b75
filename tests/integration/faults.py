"""Injects faults into a running pool server, over HTTP."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from router_r1.pool.config import PoolConfig

# Shares of calls by kind of fault: all that a client must live with at once.
CHAOS = {
    "status_429": 0.05,
    "status_500": 0.05,
    "error_in_200": 0.03,
    "error_in_list": 0.02,
    "cut": 0.05,
    "hang": 0.03,
    "malformed_json": 0.05,
    "empty_choices": 0.05,
    "missing_usage": 0.05,
    "silly_usage": 0.05,
    "wrong_content_type": 0.05,
    "lying_encoding": 0.05,
    "unasked_stream": 0.05,
    "content_parts": 0.05,
    "only_reasoning": 0.05,
    "think_in_reply": 0.05,
    "unclosed_think": 0.05,
    "huge_reply": 0.05,
    "forged_reply": 0.1,
    "markup_reply": 0.05,
}


def _admin(pool: PoolConfig, method: str, body: dict[str, Any] | None) -> None:
    assert pool.api_base is not None
    url = pool.api_base.removesuffix("/v1") + "/admin/faults"
    data = json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 200


@contextmanager
def faults(
    pool: PoolConfig, rates: dict[str, float], seed: int = 0, retry_after_s: float = 0.0
) -> Iterator[None]:
    """Shares of all calls end in the given kinds inside the block."""
    _admin(pool, "POST", {"rates": rates, "seed": seed, "retry_after_s": retry_after_s})
    try:
        yield
    finally:
        _admin(pool, "DELETE", None)


def fault(
    pool: PoolConfig, kind: str, rate: float = 1.0, seed: int = 0
) -> AbstractContextManager[None]:
    """``rate`` of all calls end in ``kind`` inside the block."""
    return faults(pool, {kind: rate}, seed)
