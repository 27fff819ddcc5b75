"""How many calls a run makes, what they may cost, and what trajectories are likely to be.

"At most": every trajectory calls in each of its turns, the dearest LLM, which replies with all its
``max_tokens`` to a query of a whole turn; a budget and a question's limit cap it. "Expected" takes
what routers of this kind were seen to do: 1.4 calls a trajectory (the quickstart; the paper reports
1.0 to 1.4), with replies of 170 tokens (the paper's cost per question by its LLM's price) to
queries of 40, spread evenly over the LLMs that the prompt offers; a turn of 150 tokens, a prompt of
500; replies within 2 seconds by the median where the pool's file does not say, and 7.5 times as
late by the 99th percentile (docs/scaling.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from router_r1.config import RouterConfig
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.dollars import show_dollars
from verl.forecast import OutsideCalls, PlannedRun, RunningTotal, Work
from verl.utils.checklist import CheckLine, Verdict

EXPECTED_CALLS = 1.4
EXPECTED_REPLY_TOKENS = 170
EXPECTED_QUERY_TOKENS = 40
EXPECTED_TURN_TOKENS = 150
EXPECTED_PROMPT_TOKENS = 500
EXPECTED_LATENCY_S = 2.0
_LATENCY_SPREAD = 7.5
_TEMPLATE_TOKENS = 64  # of the chat template around the message, at most
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Forecast:
    """Calls and $ of some trajectories."""

    expected_calls: float
    most_calls: int
    expected_dollars: float
    most_dollars: float


def forecast(config: RouterConfig, pool: PoolConfig, trajectories: int) -> Forecast:
    """Of ``trajectories`` with the run's limits and the pool's prices."""
    expected_calls = trajectories * min(EXPECTED_CALLS, float(config.most_calls))
    most_calls = trajectories * config.most_calls
    mean_price = sum(_expected_dollars(llm, pool) for llm in pool.offered) / len(pool.offered)
    query_tokens = config.data.max_response_length
    highest_price = max(_most_dollars(llm, pool, query_tokens) for llm in pool.llms)
    most = most_calls * highest_price
    expected = expected_calls * mean_price
    each = config.question_limit.usd
    for cap in (pool.budget_usd, None if each is None else trajectories * each):
        if cap is not None:
            most, expected = min(most, cap), min(expected, cap)
    return Forecast(expected_calls, most_calls, expected, most)


def expected_work(config: RouterConfig, pool: PoolConfig, trajectories: int) -> Work:
    """What so many trajectories do; all LLMs that the prompt offers are asked alike."""
    latencies = [llm.latency_s for llm in pool.offered if llm.latency_s is not None]
    median_s = sum(latencies) / len(latencies) if latencies else EXPECTED_LATENCY_S
    limits = [llm.requests_per_minute for llm in pool.offered]
    known = [limit for limit in limits if limit is not None]
    calls = OutsideCalls(
        each=min(EXPECTED_CALLS, float(config.most_calls)),
        median_s=median_s,
        p99_s=_LATENCY_SPREAD * median_s,
        at_once=sum(llm.concurrency for llm in pool.offered),
        per_minute=sum(known) if len(known) == len(limits) else None,
        limit_s=pool.request_timeout_s,
    )
    return Work(
        trajectories=trajectories,
        calls=calls,
        prompt_tokens=min(EXPECTED_PROMPT_TOKENS, config.data.max_start_length),
        turn_tokens=min(EXPECTED_TURN_TOKENS, config.data.max_response_length),
        observation_tokens=min(EXPECTED_REPLY_TOKENS, config.data.max_obs_length),
    )


def forecast_lines(config: RouterConfig, pool: PoolConfig, run: PlannedRun) -> list[CheckLine]:
    """Calls and dollars of a run."""
    if run.training is None:
        unknown = "the number of steps follows from the data files"
        advice = "set trainer.total_training_steps, or prepare the files"
        return [CheckLine("calls and dollars", Verdict.UNKNOWN, unknown, advice=advice)]
    result = forecast(config, pool, run.training + (run.validation or 0))
    rounds = f"validations: {run.validations}"
    if run.validation is None:
        rounds += " of unknown size, not counted"
    calls = (
        f"about {result.expected_calls:,.0f}, at most {result.most_calls:,} "
        f"({run.training:,} training trajectories; {rounds})"
    )
    lines = [CheckLine("calls", Verdict.OK, calls)]
    return [*lines, _dollars_line(pool, result)] if is_priced(pool) else lines


def spending_totals(pool: PoolConfig) -> tuple[RunningTotal, ...]:
    """``pool/spent_usd`` as the progress line shows it; nothing where no call costs anything."""
    if pool.recording.mode == "replay" or not is_priced(pool):
        return ()
    title = "simulated" if pool.simulated else "spent"
    return (RunningTotal("pool/spent_usd", title, show_dollars, pool.budget_usd),)


def is_priced(pool: PoolConfig) -> bool:
    """Whether any LLM asks for money."""
    return any(llm.prompt_price or llm.completion_price for llm in pool.llms)


def _dollars_line(pool: PoolConfig, result: Forecast) -> CheckLine:
    expected, most = show_dollars(result.expected_dollars), show_dollars(result.most_dollars)
    dollars = f"about {expected}, at most {most}"
    if pool.recording.mode == "replay":
        return CheckLine("dollars", Verdict.OK, "none: calls are replayed from the recording")
    if pool.simulated:
        return CheckLine("dollars", Verdict.OK, f"none are paid; simulated: {dollars}")
    advice = "" if pool.budget_usd is not None else "pool.budget_usd=… is a limit that holds"
    return CheckLine("dollars", Verdict.OK, dollars, advice=advice)


def _expected_dollars(llm: LLMConfig, pool: PoolConfig) -> float:
    prompt = len(pool.instruction_of(llm)) / _CHARACTERS_PER_TOKEN + EXPECTED_QUERY_TOKENS
    reply = min(EXPECTED_REPLY_TOKENS, llm.max_tokens)
    return (prompt * llm.prompt_price + reply * llm.completion_price) / 1e6


def _most_dollars(llm: LLMConfig, pool: PoolConfig, query_tokens: int) -> float:
    """A token of the instruction is at least one byte of it."""
    prompt = len(pool.instruction_of(llm).encode()) + query_tokens + _TEMPLATE_TOKENS
    return (prompt * llm.prompt_price + llm.max_tokens * llm.completion_price) / 1e6
