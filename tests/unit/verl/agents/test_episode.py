"""An episode's tokens and room, and the loop that runs episodes side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl.agents.episode import Episode
from verl.agents.loop import AgentLoop
from verl.interfaces import (
    GenerationOutput,
    OnTokens,
    RolloutOptions,
    RolloutRequest,
    SamplingParams,
)
from verl.trajectory import AgentRecord, SegmentKind, Trajectory, TrajectoryStatus

PROMPT = (1, 2, 3)


@dataclass(frozen=True)
class Told(AgentRecord):
    generations: int


class Counting:
    """An engine that goes on counting where the context ends, and stops after ``length`` tokens."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.seeds: list[int | None] = []

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        del session_id, on_tokens
        self.seeds.append(sampling.seed)
        await asyncio.sleep(0)
        count = min(self._length, sampling.max_tokens)
        ids = tuple(range(prompt_ids[-1] + 1, prompt_ids[-1] + 1 + count))
        reason = "stop" if count == self._length else "length"
        return GenerationOutput(ids, (-0.5,) * count, reason)


class Agent(AgentLoop[Told]):
    """Writes and reads until there is no room; fails for one uid."""

    def __init__(self, max_length: int, fails: str = "") -> None:
        super().__init__()
        self._max_length = max_length
        self._fails = fails
        self.released = False

    async def run_one(self, request: RolloutRequest, options: RolloutOptions) -> Trajectory[Told]:
        if request.uid == self._fails:
            raise RuntimeError("the engine is gone")
        episode = Episode(Counting(3), request, options, PROMPT, self._max_length)
        generations = 0
        while episode.room > 0:
            await episode.generate(max_tokens=4, stop=())
            generations += 1
            if not episode.observe((0, generations)):
                break
        return episode.finish(TrajectoryStatus.TRUNCATED, Told(generations))

    async def release(self) -> None:
        self.released = True


@given(
    max_length=st.integers(4, 40),
    max_tokens=st.none() | st.integers(1, 40),
    seed=st.none() | st.integers(0, 5),
)
def test_the_context_never_grows_past_its_limits(
    max_length: int, max_tokens: int | None, seed: int | None
) -> None:
    async def play() -> tuple[Trajectory[Told], list[int | None]]:
        engine = Counting(3)
        options = RolloutOptions(max_tokens=max_tokens, seed=seed)
        episode = Episode(engine, RolloutRequest("q", [], 1), options, PROMPT, max_length)
        while (room := episode.room) > 0:
            output = await episode.generate(max_tokens=4, stop=())
            assert 1 <= len(output.token_ids) <= room
            if not episode.observe((0, 0)):
                break
        return episode.finish(TrajectoryStatus.TRUNCATED, Told(0), excluded=True), engine.seeds

    trajectory, seeds = asyncio.run(play())
    assert tuple(trajectory.prompt_ids) == PROMPT
    assert len(trajectory.token_ids) <= max_length
    sampled = [s for s in trajectory.segments if s.kind is SegmentKind.ACTION]
    assert len(seeds) == len(sampled)
    assert len(set(seeds)) == (1 if seed is None else len(seeds)), "a stream a generation"
    assert (trajectory.uid, trajectory.sample_index, trajectory.excluded) == ("q", 1, True)


def test_a_rollout_keeps_the_order_and_tells_of_each_end() -> None:
    agent = Agent(max_length=20)
    try:
        ended: list[str] = []
        requests = [RolloutRequest(str(i), []) for i in range(9)]
        made = agent.rollout(requests, RolloutOptions(), lambda t: ended.append(t.uid))
        assert [trajectory.uid for trajectory in made] == [request.uid for request in requests]
        assert sorted(ended) == sorted(request.uid for request in requests)
        assert {trajectory.record for trajectory in made} == {Told(4)}
        assert agent.pending_tasks() == 0
    finally:
        agent.close()
    assert agent.released


def test_what_ends_one_trajectory_ends_the_rollout_and_leaves_nothing_running() -> None:
    threads = threading.active_count()
    agent = Agent(max_length=10_000, fails="3")
    try:
        with pytest.raises(RuntimeError, match="the engine is gone"):
            agent.rollout([RolloutRequest(str(i), []) for i in range(6)], RolloutOptions())
        assert agent.pending_tasks() == 0
    finally:
        agent.close()
    assert threading.active_count() == threads
