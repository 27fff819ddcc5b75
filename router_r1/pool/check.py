"""Is a pool ready to be used? One tiny call per LLM, with its latency and cost.

The file itself has been checked when it was read: keys, names that collide, prices.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.table import Table

from router_r1.pool import line
from router_r1.pool.advice import advise, as_yaml
from router_r1.pool.client import PoolClient
from router_r1.pool.config import CALCULATOR, LLMConfig, PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.pool.recording import RecordingConfig
from router_r1.pool.request_options import RequestOptions
from router_r1.pool.tools.member import check_tools
from verl.utils.console import console, progress_bar
from verl.utils.redaction import redact

_QUESTION = "Reply with the single word: ready"
_SUM = "1 + 1"
_ADVICE = {
    Outcome.CONNECTION_ERROR: "nothing answers at its endpoint",
    Outcome.TIMEOUT: "no reply in time; raise request_timeout_s or look at the server",
    Outcome.REFUSED: "refused: look at the key, the model's name and the request's options",
    Outcome.RATE_LIMITED: "rate limited; lower concurrency or set requests_per_minute",
    Outcome.SERVER_ERROR: "the endpoint fails",
    Outcome.MALFORMED: "the reply is no chat completion; is this an OpenAI-compatible API?",
    Outcome.INVALID_QUERY: "the endpoint says the request is invalid; look at its parameters",
    Outcome.EMPTY: "an empty reply",
    Outcome.BUDGET: "budget_usd does not allow a single call",
}
# Endpoints name one field at a time; there are five that can be wrong.
_MOST_CHANGES = 6
# A person waits; in a run, calls wait for an endpoint as long as the pool file lets them.
_LONGEST_WAIT_S = 30.0
_ABOUT_THE_REQUEST = (Outcome.REFUSED, Outcome.INVALID_QUERY)


@dataclass(frozen=True)
class _Trial:
    """How asking an LLM went as the pool file has it, and what its endpoint's words change.

    Attributes:
        options: that they ask for; None if they name no change.
        cured: whether the LLM answers with them.
    """

    result: CallResult
    options: RequestOptions | None
    cured: bool


async def check_pool(pool: PoolConfig, ask: bool) -> bool:
    """Prints a table of the pool; whether every LLM is usable.

    Args:
        ask: make one call per LLM, and a few more where the endpoint wants its requests
            otherwise; it costs a few tokens each.

    Raises:
        DataError: for the corpus of a tool that cannot be used.
    """
    check_tools(pool)
    wait_s = min(pool.queue_timeout_s, _LONGEST_WAIT_S)
    pool = replace(pool, recording=RecordingConfig(), queue_timeout_s=wait_s)
    trials: dict[str, _Trial] = {}
    if ask:
        with _quiet(), progress_bar() as progress:
            bar = progress.add_task("asking", total=len(pool.llms))

            async def try_one(llm: LLMConfig) -> None:
                question = _SUM if llm.kind == CALCULATOR else _QUESTION
                trials[llm.name] = await _try(pool, llm, question)
                progress.advance(bar)

            await asyncio.gather(*(try_one(llm) for llm in pool.llms))
    _print(pool, trials)
    failed = [t for t in trials.values() if t.result.outcome is not Outcome.OK]
    for trial in failed:
        _print_trial(trial)
    for remark in _remarks(pool):
        console.print(f"[yellow]note:[/] {remark}", highlight=False)
    if failed:
        names = ", ".join(trial.result.llm for trial in failed)
        console.print(f"[red]not usable:[/] {names}", highlight=False)
    elif ask:
        what = "LLMs and tools" if pool.tools else "LLMs"
        console.print(f"all {len(pool.llms)} {what} of pool {pool.name!r} answer", highlight=False)
    return not failed


async def _try(pool: PoolConfig, llm: LLMConfig, question: str) -> _Trial:
    """Asks one LLM, with other request options as long as its endpoint names what to change."""
    first = result = await _ask(pool, llm, question)
    options = llm.request
    for _ in range(_MOST_CHANGES):
        if result.outcome not in _ABOUT_THE_REQUEST:
            break
        wanted = advise(result.detail, options)
        if wanted is None:
            break
        options = wanted
        result = await _ask(pool, replace(llm, request=options), question)
    changed = options if options != llm.request else None
    return _Trial(first, changed, result.outcome is Outcome.OK)


async def _ask(pool: PoolConfig, llm: LLMConfig, question: str) -> CallResult:
    async with PoolClient(replace(pool, llms=[llm])) as client:
        return await client.ask(llm.name, question)


def _print_trial(trial: _Trial) -> None:
    """Why an LLM is not usable, in the endpoint's own words, and what to add to the pool file."""
    name, outcome = trial.result.llm, trial.result.outcome
    words = f" ({trial.result.detail})" if trial.result.detail else ""
    lines = [f"{name}: {_ADVICE.get(outcome, outcome.value)}{words}"]
    if trial.options is not None:
        known = "with it, the LLM answers" if trial.cured else "it still fails with it"
        lines.append(f"{name}: change its entry in the pool file; {known}:")
        lines.append(textwrap.indent(as_yaml(trial.options), "    "))
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the client's warnings: the table tells what they would."""
    logger = logging.getLogger(line.__name__)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _print(pool: PoolConfig, trials: dict[str, _Trial]) -> None:
    places = {
        llm.name: str(redact(llm.base_url or pool.api_base)) for llm in pool.llms if not llm.is_tool
    }
    shared = len(set(places.values())) == 1
    title = f"Pool {pool.name}" + (f" at {next(iter(places.values()))}" if shared else "")
    table = Table(title=title, title_justify="left")
    for column in ("LLM", "API model") if shared else ("LLM", "API model", "endpoint"):
        table.add_column(column, overflow="fold")
    for column in ("$/1M in", "$/1M out", "latency", "tokens", "$"):
        table.add_column(column, justify="right")
    table.add_column("state", overflow="fold")
    for llm in pool.llms:
        model = f"({llm.kind})" if llm.is_tool else llm.model
        table.add_row(
            llm.name if llm.in_prompt else f"{llm.name} (not in prompt)",
            *((model,) if shared else (model, places.get(llm.name, ""))),
            f"{llm.prompt_price:g}",
            f"{llm.completion_price:g}",
            *_cells(trials.get(llm.name)),
        )
    console.print(table)


def _cells(trial: _Trial | None) -> tuple[str, str, str, str]:
    if trial is None:
        return "", "", "", "not asked"
    result = trial.result
    latency = f"{result.latency_s:.2f} s"
    if result.outcome is not Outcome.OK:
        return latency, "", "", f"[red]{_ADVICE.get(result.outcome, result.outcome.value)}[/]"
    estimated = " (tokens estimated)" if result.usage_estimated else ""
    tokens = f"{result.prompt_tokens}+{result.completion_tokens}"
    return latency, tokens, f"{result.dollars:.6f}", f"[green]ready[/]{estimated}"


def _remarks(pool: PoolConfig) -> list[str]:
    """What is allowed but worth a look."""
    remarks = []
    if free := [llm.name for llm in pool.llms if llm.completion_price == 0]:
        remarks.append(f"a completion price of 0: {', '.join(free)}; their calls count as free")
    if unpriced := [x.name for x in pool.offered if x.prompt_price == 0 and not x.is_tool]:
        remarks.append(
            f"no prompt_price: {', '.join(unpriced)}; dollars and budget count completions only"
        )
    if bare := [llm.name for llm in pool.offered if not llm.descriptor.strip()]:
        remarks.append(
            f"no descriptor: {', '.join(bare)}; the policy knows only the name "
            "(python -m router_r1.pool describe drafts one)"
        )
    for llm, other in itertools.permutations(pool.offered, 2):
        if llm.name.lower() in other.name.lower():
            remarks.append(
                f"the name {llm.name!r} stands within {other.name!r}; a policy may confuse them"
            )
    variables = {pool.key_variable(llm) for llm in pool.llms} - {""}
    if unset := sorted(name for name in variables if not os.environ.get(name)):
        remarks.append(f"no key in ${', $'.join(unset)}; servers that want none do not mind")
    return remarks
