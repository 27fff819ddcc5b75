"""What tests of rollouts ask for, and what holds of every trajectory of theirs."""

from __future__ import annotations

from collections.abc import Sequence

from router_r1.llm_agent.generation import GenerationLimits
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import Outcome
from verl.interfaces import GenerationOutput, OnTokens, RolloutOptions, SamplingParams
from verl.trajectory import SegmentKind, Trajectory, TrajectoryStatus
from verl.workers.rollout.replicas import RolloutReplicas

LIMITS = GenerationLimits(
    max_turns=3, max_response_length=48, max_prompt_length=512, max_obs_length=64
)
SAMPLED, GREEDY = RolloutOptions(temperature=1.0), RolloutOptions(temperature=0.0)
# A reply came, so the endpoint may have billed it.
BILLED = ("ok", "empty", "malformed")


class Noting:
    """The engine, noting what is asked of it; with ``one_replica`` all is asked of the first."""

    def __init__(self, engine: RolloutReplicas, one_replica: bool = False) -> None:
        self._engine = engine
        self._one_replica = one_replica
        self.seeds: dict[tuple[str, int], int | None] = {}

    async def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        session_id: str,
        on_tokens: OnTokens | None = None,
    ) -> GenerationOutput:
        self.seeds[session_id, len(prompt_ids)] = sampling.seed
        session = "the first replica's" if self._one_replica else session_id
        return await self._engine.generate(prompt_ids, sampling, session, on_tokens)


def check_bookkeeping(trajectory: Trajectory, pool: PoolConfig) -> None:
    """One named end, and cost that adds up from the calls."""
    record, prices = trajectory.record, pool.prices()
    assert trajectory.status is not TrajectoryStatus.FAILED
    results = [call.result for call in record.calls]
    answered = [result for result in results if result.outcome is Outcome.OK]
    billed = [result for result in results if result.outcome in BILLED]
    assert (record.routed_calls, record.failed_calls) == (
        len(answered),
        len(results) - len(answered),
    )
    assert record.cost == sum(r.completion_tokens * prices[r.llm] for r in billed)
    assert all(r.dollars == r.completion_tokens == 0 for r in results if r not in billed)
    assert len(results) <= LIMITS.max_turns
    kinds = [segment.kind for segment in trajectory.segments]
    assert kinds[:2] == [SegmentKind.PROMPT, SegmentKind.ACTION]
    assert len(record.turns) == kinds.count(SegmentKind.ACTION)
    assert kinds.count(SegmentKind.OBSERVATION) <= len(results)
