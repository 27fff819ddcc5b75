"""Routed trajectories made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.outcome import CallResult, Outcome
from verl.trajectory import TrajectoryStatus


def call(
    llm: str = "Atlas",
    reply: str | None = "x",
    cost: float = 0.0,
    dollars: float | None = None,
    latency_s: float = 0.0,
) -> Call:
    """A call with its reply; without one it has timed out."""
    outcome = Outcome.TIMEOUT if reply is None else Outcome.OK
    spent = cost / 1e6 if dollars is None else dollars
    return Call("q", CallResult(llm, outcome, reply, cost=cost, dollars=spent, latency_s=latency_s))


def routed(
    texts: Sequence[str],
    calls: Sequence[Call] = (),
    status: TrajectoryStatus = TrajectoryStatus.ANSWERED,
    unread: int = 0,
) -> RoutedTrajectory:
    """The first turns make the calls; the last ``unread`` replies found no room."""
    turns = [Turn(text) for text in texts]
    for i, made in enumerate(calls):
        is_read = i < len(calls) - unread
        observation = render_observation(made.result.text) if is_read else ""
        turns[i] = Turn(texts[i], made, observation)
    return RoutedTrajectory(status, tuple(turns))
