"""How many calls a run makes, and what they may cost.

"At most": every trajectory calls in each of its turns, the dearest LLM, which replies with all its
``max_tokens`` to a query of a whole turn; a budget caps it. "Expected" takes what routers of this
kind were seen to do: 1.4 calls a trajectory (the quickstart; the paper reports 1.0 to 1.4), with
replies of 170 tokens (the paper's cost per question by its LLM's price) to queries of 40, spread
evenly over the LLMs that the prompt offers.
"""

from __future__ import annotations

from dataclasses import dataclass

from router_r1.config import RouterConfig
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.dollars import show_dollars
from verl.trainer.check.plan import PlannedRun
from verl.trainer.ppo.totals import RunningTotal
from verl.utils.checklist import CheckLine, Verdict

EXPECTED_CALLS = 1.4
EXPECTED_REPLY_TOKENS = 170
EXPECTED_QUERY_TOKENS = 40
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
    expected_calls = trajectories * min(EXPECTED_CALLS, float(config.max_turns))
    most_calls = trajectories * config.max_turns
    mean_price = sum(_expected_dollars(llm, pool) for llm in pool.offered) / len(pool.offered)
    query_tokens = config.data.max_response_length
    highest_price = max(_most_dollars(llm, pool, query_tokens) for llm in pool.llms)
    most = most_calls * highest_price
    expected = expected_calls * mean_price
    if pool.budget_usd is not None:
        most, expected = min(most, pool.budget_usd), min(expected, pool.budget_usd)
    return Forecast(expected_calls, most_calls, expected, most)


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
