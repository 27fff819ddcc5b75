"""Lets a strong LLM of the pool draft the paragraph that the prompt gives on each LLM.

Tools keep the descriptor that they have: it says what their corpus is about, which no LLM knows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import yaml

from router_r1.pool.client import PoolClient
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.pool.outcome import Outcome
from router_r1.tags import DEFAULT_TAGS
from verl.config.validation import ConfigError, changed_fields
from verl.errors import UserError
from verl.utils.console import console, progress_bar
from verl.utils.files import write_text

_TASK = (
    "Write one paragraph of two or three plain sentences on the language model {name} (API name "
    "{model}) for a program that chooses which model to ask: who made it, its size, what it is "
    "good at, where it is weak, and that it costs {price:g} dollars per million tokens. No list, "
    "no heading, no invitation to ask more."
)
_LONGEST_CHARACTERS = 1200


async def draft_descriptors(pool: PoolConfig, writer: str | None, output: Path) -> None:
    """Asks ``writer``, or the dearest LLM, for each LLM's descriptor and writes the pool file with
    the drafts; raises :class:`UserError`, and writes nothing, if it is unknown, a tool or fails."""
    llms = [llm for llm in pool.llms if not llm.is_tool]
    dearest = max(llms, key=lambda llm: llm.completion_price, default=None)
    author = pool.resolve(writer) if writer else dearest
    if author is None or author.is_tool:
        names = ", ".join(llm.name for llm in llms) or "none"
        wrong = f"--writer={writer!r} is no LLM of" if writer else "there is nobody to write in"
        raise ConfigError(f"{wrong} pool {pool.name!r}; its LLMs: {names}")
    if output.exists():
        raise UserError(f"{output} exists already; name another file")
    async with PoolClient(pool) as client:
        with progress_bar() as progress:
            bar = progress.add_task(f"{author.name} writes", total=len(llms))

            async def draft(llm: LLMConfig) -> LLMConfig:
                if llm.is_tool:
                    return llm
                text = await _ask(client, author, llm)
                progress.advance(bar)
                return replace(llm, descriptor=text)

            drafted = await asyncio.gather(*map(draft, pool.llms))
    for llm in drafted:
        if not llm.is_tool:
            console.print(f"[bold]{llm.name}[/]: {llm.descriptor}", highlight=False)
    # Only what differs from the defaults, as a person would write it.
    content = changed_fields(pool)
    content["llms"] = [changed_fields(llm) for llm in drafted]
    write_text(output, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))
    console.print(f"wrote {output}; read the drafts before you use them", highlight=False)


async def _ask(client: PoolClient, author: LLMConfig, llm: LLMConfig) -> str:
    task = _TASK.format(name=llm.name, model=llm.model, price=llm.completion_price)
    result = await client.ask(author.name, task)
    if result.outcome is not Outcome.OK or result.text is None:
        words = f" ({result.detail})" if result.detail else ""
        raise UserError(f"{author.name} did not describe {llm.name}: {result.outcome.value}{words}")
    text, _ = DEFAULT_TAGS.neutralise(result.text)
    return " ".join(text.split())[:_LONGEST_CHARACTERS]
