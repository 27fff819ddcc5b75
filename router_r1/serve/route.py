"""``POST /route``: which LLM the router would ask, without asking it.

The request is ``{"query": …}``, for a router that is told what cost counts also with ``cost_coe``;
the answer ``{"selected_model": …, "thinking": …, "full_response": …}``, as the Router-R1 client of
vLLM's semantic router has them.

Guarantees: ``selected_model`` is the LLM of the trajectory's first valid call, by its name in the
pool; it is not asked, and nothing follows that call. Tools that the router calls before it are
asked, and so is nobody for a name that no LLM has. Where the trajectory ends without such a call
there is an error: clients take an empty name for the first of their candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router_r1.inference.router import QuestionTooLongError, Router
from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.llm_agent.question import is_unicode
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import CallResult
from router_r1.preference import FIELD as COST_COE
from router_r1.preference import is_weight
from router_r1.serve.errors import APIError, malformed, too_long
from router_r1.serve.protocol import read_object, unknown_fields
from router_r1.tags import THINK, Tags

_QUERY = "query"


@dataclass(frozen=True)
class RouteRequest:
    """``query``: what is to be routed; ``cost_coe``: what cost counts, None leaves it to the
    server; ``warnings``: fields that are ignored."""

    query: str
    cost_coe: float | None = None
    warnings: tuple[str, ...] = ()


def parse_route_request(body: bytes) -> RouteRequest:
    """Reads a request's body; an :class:`APIError` 400 names the field at fault."""
    data = read_object(body)
    query = data.get(_QUERY)
    if not isinstance(query, str) or not query.strip():
        raise malformed("query must be a string with some text", _QUERY)
    if not is_unicode(query):
        raise malformed("query holds half of a character (a lone surrogate)", _QUERY)
    cost_coe = data.get(COST_COE)
    if cost_coe is not None and not is_weight(cost_coe):
        raise malformed(f"{COST_COE} must be a number from 0 to 1", COST_COE)
    return RouteRequest(query, cost_coe, unknown_fields(data, {_QUERY, COST_COE}))


async def select_llm(
    router: Router, asked: RouteRequest, on_call_end: Callable[[CallResult], None]
) -> dict[str, Any]:
    """Lets the router think until it calls an LLM, and gives the body that says which; to be
    awaited on the router's event loop. ``on_call_end`` gets the result of each call of a tool.
    Raises an :class:`APIError` 400 if the query is too long, 422 if the router calls no LLM."""
    try:
        rollout = router.request(asked.query, asked.cost_coe)
    except QuestionTooLongError as error:
        raise too_long(str(error), _QUERY) from error
    observer = FirstLLM(router.settings.pool, router.settings.tags, on_call_end)
    try:
        await router.answer(rollout, observer)
    except LLMSelected as selected:
        return selected.body | ({"warnings": list(asked.warnings)} if asked.warnings else {})
    raise APIError(
        422,
        "the router called no LLM: it answered by itself, or ended without an answer; "
        "/v1/chat/completions gives its answer",
        "no_llm_selected",
    )


class LLMSelected(Exception):
    """The router calls an LLM; ``body`` says which, and all that it thought, wrote and read up to
    this call."""

    def __init__(self, body: dict[str, str]) -> None:
        super().__init__(body["selected_model"])
        self.body = body


@dataclass
class FirstLLM(TrajectoryObserver):
    """Ends a trajectory by :class:`LLMSelected` where it would call an LLM of ``pool``;
    ``on_call_end`` gets the result of each other call."""

    pool: PoolConfig
    tags: Tags
    on_call_end: Callable[[CallResult], None]
    _written: str = field(default="", init=False)
    _all: str = field(default="", init=False)

    def on_text(self, delta: str) -> None:
        """Keeps what the router writes."""
        self._written += delta
        self._all += delta

    def on_observation(self, block: str) -> None:
        """Keeps what it reads, which is no thought of its own."""
        self._all += block

    def on_call(self, name: str, query: str) -> None:  # noqa: ARG002 - the name decides
        """Raises :class:`LLMSelected` for an LLM of the pool."""
        llm = self.pool.resolve(name)
        if llm is None or llm.is_tool:
            return
        blocks = self.tags.blocks(self._written)
        thoughts = [block.text.strip() for block in blocks if block.kind == THINK]
        raise LLMSelected(
            {
                "selected_model": llm.name,
                "thinking": "\n".join(filter(None, thoughts)),
                "full_response": self._all,
            }
        )

    def on_result(self, result: CallResult) -> None:
        """Hands the call to ``on_call_end``."""
        self.on_call_end(result)
