"""The routing loop with a real engine, a policy that knows the format, and a real HTTP pool."""

from __future__ import annotations

import asyncio
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from router_r1.llm_agent import LLMGenerationManager, parse_action
from router_r1.llm_agent.generation import GenerationLimits
from router_r1.llm_agent.observation import render_observation
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import Outcome
from router_r1.pool.reasoning import split_reasoning
from router_r1.world.simulated_llm import World
from tests.integration.faults import CHAOS, fault, faults
from tests.integration.rollouts import BILLED, GREEDY, LIMITS, SAMPLED, Noting, check_bookkeeping
from verl.config.rollout import RolloutConfig
from verl.errors import UserError
from verl.interfaces import (
    GenerationOutput,
    RolloutOptions,
    RolloutRequest,
    SamplingParams,
)
from verl.trainer.evaluation.generate import TRAJECTORIES, generate
from verl.trainer.evaluation.records import read_log
from verl.trajectory import SegmentKind, Trajectory, TrajectoryStatus
from verl.workers.rollout.replicas import RolloutReplicas

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.engine]
BROKEN = {outcome.value for outcome in Outcome if outcome.infrastructure}
Roll = Callable[..., list[Trajectory]]


@pytest.fixture(scope="module")
def engine(cold_start_folder: Path) -> Iterator[RolloutReplicas]:
    """Two replicas, as on two GPUs."""
    config = RolloutConfig(
        dtype="float32",
        enforce_eager=True,
        inline_engine=True,
        num_replicas=2,
        cpu_threads=1,
        max_num_seqs=64,
    )
    engine = RolloutReplicas(config, str(cold_start_folder), "cpu", 512)
    engine.wait_until_ready()
    yield engine
    engine.shutdown()


@pytest.fixture(scope="module")
def policy_tokenizer(cold_start_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(cold_start_folder)


@pytest.fixture(scope="module")
def requests(world: World, embedded_pool: PoolConfig) -> list[RolloutRequest]:
    template = build_prompt_template("compact", embedded_pool)
    questions = world.knowledge.questions("test")[:48]
    return [
        RolloutRequest(
            f"q{i}", [{"role": "user", "content": fill(template, q.text)}], row={"hops": q.hops}
        )
        for i, q in enumerate(questions)
    ]


@pytest.fixture
def roll(engine: RolloutReplicas, policy_tokenizer: Any, served_pool: PoolConfig) -> Roll:
    def run(
        requests: list[RolloutRequest],
        options: RolloutOptions = SAMPLED,
        limits: GenerationLimits = LIMITS,
        pool: PoolConfig = served_pool,
    ) -> list[Trajectory]:
        manager = LLMGenerationManager(engine, policy_tokenizer, pool, limits)
        try:
            return manager.rollout(requests, options)
        finally:
            manager.close()
            engine.end_sessions()

    return run


def test_what_is_scored_is_what_was_sampled(
    roll: Roll,
    requests: list[RolloutRequest],
    cold_start_folder: Path,
    policy_tokenizer: Any,
    served_pool: PoolConfig,
) -> None:
    """Hugging Face's own log-probs of each trajectory's ids are those the engine sampled with."""
    trajectories = roll(requests)
    assert [t.uid for t in trajectories] == [r.uid for r in requests]
    answered = [t for t in trajectories if t.status is TrajectoryStatus.ANSWERED]
    assert len(answered) >= 0.8 * len(requests)
    model = AutoModelForCausalLM.from_pretrained(cold_start_folder, dtype=torch.float32)
    for trajectory in trajectories:
        check_bookkeeping(trajectory, served_pool)
        ids = torch.tensor([trajectory.token_ids])
        with torch.no_grad():
            all_log_probs = model(ids).logits[0].log_softmax(-1)
        chosen = all_log_probs[:-1].gather(-1, ids[0, 1:, None]).squeeze(-1)
        chosen = chosen[len(trajectory.prompt_ids) - 1 :]
        mask = torch.tensor(trajectory.response_mask).bool()
        expected = torch.tensor(trajectory.log_probs)
        assert (chosen - expected)[mask].abs().max() < 1e-4
        assert trajectory.record.response_text == policy_tokenizer.decode(trajectory.response_ids)


def test_replies_reach_the_policy_word_by_word(
    roll: Roll, requests: list[RolloutRequest], policy_tokenizer: Any, world: World
) -> None:
    seen = 0
    for trajectory in roll(requests):
        observations = [
            policy_tokenizer.decode(s.token_ids)
            for s in trajectory.segments
            if s.kind is SegmentKind.OBSERVATION
        ]
        replies = [call for call in trajectory.record.calls if call.ok]
        for call in replies:
            seen += 1
            # A query may hold tags, of reasoning too, which the world's LLM repeats.
            said = split_reasoning(world.reply(call.result.llm, call.query).text).text
            assert call.result.text == said
            block = render_observation(said)
            assert any(block in o for o in observations)
    assert seen >= len(requests)


def test_turns_end_at_their_tag(
    roll: Roll, requests: list[RolloutRequest], policy_tokenizer: Any
) -> None:
    """Sampled turns may be badly formed; a closing tag ends them all the same."""
    closed = 0
    for trajectory in roll(requests):
        turns = [
            policy_tokenizer.decode(segment.token_ids)
            for segment in trajectory.segments
            if segment.kind is SegmentKind.ACTION
        ]
        for turn in turns:
            tags = re.findall("</search>|</answer>", turn)
            assert len(tags) <= 1, turn
            assert not tags or turn.endswith(tags[0]), turn
            closed += len(tags)
        if trajectory.status is TrajectoryStatus.ANSWERED:
            assert turns[-1].endswith("</answer>")
    assert closed > len(requests)


def test_greedy_repeats_itself_but_for_ties(roll: Roll, requests: list[RolloutRequest]) -> None:
    """The policy of the cold start finds all LLMs equally good: which of two is ahead by 1e-6 can
    depend on what else is in the engine's batch."""
    first, second = roll(requests[:16], GREEDY), roll(requests[:16], GREEDY)
    different = [
        pair for pair in zip(first, second, strict=True) if pair[0].token_ids != pair[1].token_ids
    ]
    assert len(different) <= 2
    for one, other in different:
        pairs = enumerate(zip(one.response_ids, other.response_ids, strict=False))
        at = next(i for i, (a, b) in pairs if a != b)
        assert one.response_mask[at] == other.response_mask[at] == 1
        assert one.log_probs[at] == pytest.approx(other.log_probs[at], abs=1e-4)


def test_samples_of_one_prompt_differ(roll: Roll, requests: list[RolloutRequest]) -> None:
    group = [replace(requests[0], sample_index=k) for k in range(12)]
    trajectories = roll(group)
    assert {t.uid for t in trajectories} == {requests[0].uid}
    assert len({tuple(t.token_ids) for t in trajectories}) > 3


@pytest.mark.parametrize("limit", [QuestionLimit(calls=1), QuestionLimit(usd=2e-4)], ids=str)
def test_a_question_keeps_within_its_limit(
    roll: Roll, requests: list[RolloutRequest], served_pool: PoolConfig, limit: QuestionLimit
) -> None:
    """A call too many is read as None, costs nothing, and is the policy's own fault."""
    refused = 0
    for trajectory in roll(requests, limits=replace(LIMITS, question=limit)):
        check_bookkeeping(trajectory, served_pool)
        assert not trajectory.excluded
        calls = trajectory.record.calls
        results = [call.result for call in calls if call.result.outcome is not Outcome.UNKNOWN_LLM]
        beyond = [result for result in results if result.outcome is Outcome.QUESTION_LIMIT]
        refused += len(beyond)
        assert all(result.text is None for result in beyond)
        if limit.calls is not None:
            assert len(results) - len(beyond) <= limit.calls
        if limit.usd is not None:
            assert sum(result.dollars for result in results) <= limit.usd
    assert refused


def first_turns(trajectories: list[Trajectory]) -> list[tuple[int, ...]]:
    return [t.segments[1].token_ids for t in trajectories]


def test_a_group_on_two_replicas_is_as_diverse_as_on_one_and_repeats(
    engine: RolloutReplicas,
    policy_tokenizer: Any,
    requests: list[RolloutRequest],
    served_pool: PoolConfig,
) -> None:
    """Groups of 8, as GRPO samples them. A sample is the same wherever it is generated, but for
    the last bits of a batch's logits, which turn a token now and then."""
    batch = [replace(r, sample_index=k) for r in requests[:12] for k in range(8)]
    hot = RolloutOptions(temperature=1.0, seed=42)
    turns, seeds = [], []
    for one_replica in (True, False, False):
        noting = Noting(engine, one_replica)
        manager = LLMGenerationManager(noting, policy_tokenizer, served_pool, LIMITS)
        try:
            turns.append(first_turns(manager.rollout(batch, hot)))
        finally:
            manager.close()
            engine.end_sessions()
        seeds.append(noting.seeds)
    alone, spread, again = turns
    assert same(alone, spread) > 0.95
    assert same(spread, again) > 0.95
    distinct = [
        [len(set(of_run[8 * i : 8 * i + 8])) for i in range(12)] for of_run in (alone, spread)
    ]
    assert sum(distinct[1]) >= 0.95 * sum(distinct[0])
    assert None not in seeds[0].values()
    for of_run in seeds:
        assert len(set(of_run.values())) == len(of_run), "one seed for each sample and turn"


def same(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Share of equal entries."""
    return sum(a == b for a, b in zip(first, second, strict=True)) / len(first)


def test_another_seed_samples_other_turns(roll: Roll, requests: list[RolloutRequest]) -> None:
    group = [replace(requests[0], sample_index=k) for k in range(16)]
    one, other = (
        first_turns(roll(group, RolloutOptions(temperature=1.5, seed=seed))) for seed in (1, 2)
    )
    assert same(one, other) < 0.5


def test_more_seeded_prompts_at_once_than_a_step_of_the_default_size_can_read(
    engine: RolloutReplicas,
) -> None:
    """A seeded prompt that vLLM reads in two parts kills its CPU engine."""

    async def all_at_once() -> list[GenerationOutput]:
        calls = (
            engine.generate(
                [100 + (7 * i + k) % 300 for k in range(80)],
                SamplingParams(max_tokens=4, seed=i),
                "the first replica's",
            )
            for i in range(128)
        )
        return list(await asyncio.gather(*calls))

    outputs = asyncio.run(all_at_once())
    engine.end_sessions()
    assert {len(output.token_ids) for output in outputs} <= {1, 2, 3, 4}


def test_a_last_search_gets_no_reply(roll: Roll, requests: list[RolloutRequest]) -> None:
    two_hop = [r for r in requests if len(r.row["hops"]) == 2]
    limits = replace(LIMITS, max_turns=1)
    trajectories = roll(two_hop, GREEDY, limits)
    exhausted = [t for t in trajectories if t.status is TrajectoryStatus.TURNS_EXHAUSTED]
    assert exhausted
    for trajectory in trajectories:
        assert len(trajectory.record.calls) <= 1
        assert len(trajectory.record.turns) <= 2
    for trajectory in exhausted:
        assert not trajectory.record.finished
        assert trajectory.segments[-1].kind is SegmentKind.ACTION


def test_out_of_room_is_truncated_and_the_prompt_stays_whole(
    roll: Roll, requests: list[RolloutRequest]
) -> None:
    longest = max(len(t.prompt_ids) for t in roll(requests[:4], GREEDY))
    limits = replace(LIMITS, max_prompt_length=longest + 30)
    for whole, cut in zip(
        roll(requests[:4], GREEDY), roll(requests[:4], GREEDY, limits), strict=True
    ):
        assert cut.prompt_ids == whole.prompt_ids
        assert len(cut.token_ids) <= limits.max_prompt_length
        assert cut.status is TrajectoryStatus.TRUNCATED
        assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]


@pytest.mark.parametrize(
    ("kind", "rate"),
    [("status_500", 1.0), ("status_429", 0.5), ("cut", 0.5), ("hang", 0.3), ("malformed_json", 1)],
)
def test_no_trajectory_is_lost_whatever_the_pool_does(
    roll: Roll, requests: list[RolloutRequest], served_pool: PoolConfig, kind: str, rate: float
) -> None:
    pool = replace(served_pool, request_timeout_s=1.0, max_retries=0)
    with fault(pool, kind, rate):
        trajectories = roll(requests, SAMPLED, LIMITS, pool)
    assert [t.uid for t in trajectories] == [r.uid for r in requests]
    failed = 0
    for trajectory in trajectories:
        check_bookkeeping(trajectory, pool)
        failed += trajectory.record.failed_calls
        results = [call.result for call in trajectory.record.calls]
        for result in results:
            assert (result.text is None) == (result.outcome is not Outcome.OK)
        broken = [result for result in results if result.outcome in BROKEN]
        assert trajectory.excluded == bool(broken)
    assert failed > 0
    if rate == 1:
        assert all(t.record.routed_calls == 0 for t in trajectories)


def test_chaos_loses_nothing_and_leaks_nothing(
    engine: RolloutReplicas,
    policy_tokenizer: Any,
    requests: list[RolloutRequest],
    served_pool: PoolConfig,
) -> None:
    """500 trajectories at once, twice, against every fault: each ends, each call has its typed
    outcome, the books balance, and the second round needs no more memory than the first."""
    pool = replace(served_pool, request_timeout_s=4.0, max_retries=1)
    batch = [replace(requests[i % len(requests)], uid=f"chaos-{i}") for i in range(500)]
    manager = LLMGenerationManager(engine, policy_tokenizer, pool, LIMITS)
    process = psutil.Process()
    used = []
    try:
        with faults(pool, CHAOS, seed=3, retry_after_s=0.05):
            for _ in range(2):
                trajectories = manager.rollout(batch, SAMPLED)
                gc.collect()
                used.append(process.memory_info().rss)
        assert manager.pending_tasks() == 0
        ledger = manager.client.ledger
    finally:
        manager.close()
        engine.end_sessions()
    assert [t.uid for t in trajectories] == [r.uid for r in batch]
    outcomes: Counter[str] = Counter()
    for trajectory in trajectories:
        check_bookkeeping(trajectory, pool)
        outcomes.update(call.result.outcome.value for call in trajectory.record.calls)
        text, own = trajectory.record.response_text, trajectory.record.policy_text
        for tag in ("<search>", "</search>", "<answer>", "</answer>", "<think>", "</think>"):
            assert text.count(tag) == own.count(tag), "a reply has added none"
        read = [s for s in trajectory.segments if s.kind is SegmentKind.OBSERVATION]
        for tag in ("<information>", "</information>"):
            assert text.count(tag) - own.count(tag) == len(read)
    assert set(outcomes) >= {"ok", "malformed", "timeout", "empty"}
    assert set(outcomes) <= {outcome.value for outcome in Outcome}
    calls = [call for t in trajectories for call in t.record.calls]
    results = [call.result for call in calls]
    assert any(call.neutralised for call in calls)
    assert any(result.usage_estimated for result in results)
    assert max(len(result.text or "") for result in results) <= 64 * 512
    known = sum(ledger.outcomes.values()) - ledger.outcomes[Outcome.UNKNOWN_LLM]
    assert known == sum(account.calls for account in ledger.accounts.values())
    assert not any("First I think" in (result.text or "") for result in results), "reasoning"
    billed = [result for result in results if result.outcome in BILLED]
    exact = sum(Fraction(str(pool.prices()[r.llm])) * r.completion_tokens for r in billed)
    assert sum(t.record.cost for t in trajectories) == pytest.approx(float(exact), abs=0.005)
    assert used[1] - used[0] < 64 * 2**20


def labelled(requests: Sequence[RolloutRequest]) -> list[RolloutRequest]:
    """With rows as an evaluation has them."""
    row = {"data_source": "w", "reward_model": {"ground_truth": {"target": ["x"]}}}
    return [replace(r, row={**row, "extra_info": {"question": r.uid}}) for r in requests]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, r"\w+ \d+ of \d+ calls \((server_error|unavailable)\)"),
        ({"budget_usd": 1e-4}, "the budget is used up"),
    ],
)
def test_an_evaluation_whose_llms_fail_keeps_what_is_sound_and_goes_on_later(
    engine: RolloutReplicas,
    policy_tokenizer: Any,
    requests: list[RolloutRequest],
    served_pool: PoolConfig,
    tmp_path: Path,
    limits: dict[str, float],
    words: str,
) -> None:
    """Every call fails, or the money ends on the way; then all is well again."""
    rows, log = labelled(requests), tmp_path / TRAJECTORIES

    def evaluate(pool: PoolConfig) -> int:
        manager = LLMGenerationManager(engine, policy_tokenizer, pool, LIMITS)
        client = manager.client
        try:
            return generate(
                rows,
                manager,
                GREEDY,
                tmp_path,
                lambda: "the budget is used up" if client.budget.exhausted else None,
                client.ledger.describe_failures,
            )
        finally:
            manager.close()
            engine.end_sessions()

    rate = 0.0 if limits else 1.0
    with fault(served_pool, "status_500", rate), pytest.raises(UserError, match=words):
        evaluate(replace(served_pool, max_retries=0, **limits))
    kept = read_log(log, RoutedTrajectory)
    assert len(kept) < len(rows)
    assert evaluate(served_pool) == len(rows) - len(kept)
    records = read_log(log, RoutedTrajectory)
    assert records[: len(kept)] == kept
    assert sorted(r.uid for r in records) == sorted(r.uid for r in rows)
    outcomes = {c.result.outcome.value for r in records for c in r.trajectory.calls}
    assert Outcome.OK.value in outcomes
    assert not outcomes & {*BROKEN, Outcome.BUDGET.value}


def test_an_interrupted_evaluation_goes_on_where_it_was(
    engine: RolloutReplicas,
    policy_tokenizer: Any,
    requests: list[RolloutRequest],
    served_pool: PoolConfig,
    tmp_path: Path,
) -> None:
    """A log cut off in its 13th line: what ended before is kept, the rest is asked once more."""
    rows = labelled(requests[:24])
    manager = LLMGenerationManager(engine, policy_tokenizer, served_pool, LIMITS)
    log = tmp_path / TRAJECTORIES
    try:
        assert generate(rows, manager, GREEDY, tmp_path) == 24
        before = {
            record.key: record.trajectory.response_text
            for record in read_log(log, RoutedTrajectory)
        }
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[:12]) + lines[12][:50])
        asked = sum(manager.client.ledger.outcomes.values())
        assert generate(rows, manager, GREEDY, tmp_path) == 12
        asked = sum(manager.client.ledger.outcomes.values()) - asked
        assert generate(rows, manager, GREEDY, tmp_path) == 0
    finally:
        manager.close()
        engine.end_sessions()
    records = read_log(log, RoutedTrajectory)
    assert len(records) == len(before) == 24, "no trajectory twice"
    assert {record.key: record.trajectory.response_text for record in records} == before
    again = {record.key for record in records[12:]}
    assert asked == sum(len(r.trajectory.calls) for r in records if r.key in again)


def test_an_invalid_action_gets_no_observation(
    roll: Roll, requests: list[RolloutRequest], served_pool: PoolConfig
) -> None:
    """A pool that knows none of the names the policy writes: calls are counted, none is sent."""
    strangers = replace(
        served_pool, llms=[replace(llm, name=f"{llm.name}X") for llm in served_pool.llms]
    )
    for trajectory in roll(requests[:16], GREEDY, LIMITS, strangers):
        record = trajectory.record
        assert record.routed_calls == 0
        assert record.cost == 0.0
        assert {call.result.outcome for call in record.calls} <= {Outcome.UNKNOWN_LLM}
        valid = parse_action(record.policy_text).kind
        assert valid in ("search", "answer", "invalid")
