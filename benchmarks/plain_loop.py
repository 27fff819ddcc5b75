"""The plain loop that the agent loop is compared with: rollouts in lock-step.

As is usual, it lets the engine write a turn for all trajectories up to the length limit, cuts each
after its stop string, makes the calls of that turn through 10 threads, and goes on when the last
has returned.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from benchmarks.slow_pool import TIMEOUT_S, SlowWorld
from router_r1.llm_agent.generation import GenerationLimits
from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.parsing import parse_action
from router_r1.pool.config import QUERY_MARKER, PoolConfig
from router_r1.tags import ANSWER, DEFAULT_TAGS, SEARCH
from verl.interfaces import RolloutRequest, SamplingParams
from verl.utils.chat_template import ChatTemplate
from verl.utils.generation_seed import generation_seed
from verl.workers.rollout.replicas import RolloutReplicas

LIMITS = GenerationLimits(3, max_response_length=48, max_prompt_length=512, max_obs_length=64)
THREADS, SEED = 10, 7


@dataclass(frozen=True)
class Rollout:
    """What one loop did: seconds in all, tokens decoded and kept, calls made, and the seconds that
    the calls of the trajectory with the slowest ones take by themselves."""

    seconds: float
    decoded: int
    kept: int
    calls: int
    longest_calls_s: float


@dataclass(frozen=True)
class Setting:
    """What both loops share."""

    engine: RolloutReplicas
    tokenizer: PreTrainedTokenizerBase
    pool: PoolConfig
    source: SlowWorld
    requests: list[RolloutRequest]


@dataclass
class _Plain:
    """A trajectory of the plain loop; ``ids`` is its context."""

    uid: str
    ids: list[int]
    asked: list[tuple[str, str]]
    ended: bool = False


def lock_step(setting: Setting) -> Rollout:
    """The plain loop."""
    template = ChatTemplate(setting.tokenizer)
    rows = [
        _Plain(r.uid, list(template.render(r.messages).token_ids), []) for r in setting.requests
    ]
    decoded = kept = 0
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        for turn in range(LIMITS.max_turns + 1):
            active = [row for row in rows if not row.ended and _room(row) > 0]
            written = asyncio.run(_generate(setting.engine, active, turn))
            to_ask = []
            for row, output in zip(active, written, strict=True):
                own, text = _cut(setting.tokenizer, output)
                row.ids += own
                decoded, kept = decoded + len(output), kept + len(own)
                action = parse_action(text)
                row.ended = action.kind == ANSWER
                llm = setting.pool.resolve(action.llm_name) if action.kind == SEARCH else None
                if llm is not None and turn < LIMITS.max_turns:
                    row.asked.append((llm.name, action.query))
                    to_ask.append((row, llm.model, action.query))
            replies = threads.map(lambda ask: _ask(setting.pool, ask[1], ask[2]), to_ask)
            for (row, _, _), reply in zip(to_ask, replies, strict=True):
                block = encode_observation(reply, setting.tokenizer, LIMITS.max_obs_length)
                row.ids += block.token_ids
    seconds = time.perf_counter() - start
    setting.engine.end_sessions()
    asked = [row.asked for row in rows]
    return Rollout(seconds, decoded, kept, *calls_of(setting.source, asked))


def _room(row: _Plain) -> int:
    return LIMITS.max_prompt_length - len(row.ids)


async def _generate(
    engine: RolloutReplicas, active: Sequence[_Plain], turn: int
) -> list[tuple[int, ...]]:
    """A turn of each, up to the length limit."""
    calls = [
        engine.generate(
            row.ids,
            SamplingParams(
                max_tokens=min(LIMITS.max_response_length, _room(row)),
                temperature=1.0,
                seed=generation_seed(SEED, row.uid, 0, turn),
            ),
            row.uid,
        )
        for row in active
    ]
    return [output.token_ids for output in await asyncio.gather(*calls)]


def _cut(tokenizer: PreTrainedTokenizerBase, ids: tuple[int, ...]) -> tuple[list[int], str]:
    """The tokens up to the one that completes a stop string, and their text."""
    for end in range(1, len(ids) + 1):
        text = str(tokenizer.decode(ids[:end]))
        if any(stop in text for stop in DEFAULT_TAGS.stop_strings):
            return list(ids[:end]), DEFAULT_TAGS.cut_after_stop(text)
    return list(ids), str(tokenizer.decode(ids))


def _ask(pool: PoolConfig, model: str, query: str) -> str:
    """One blocking call."""
    content = f"{pool.instruction}\n\n{QUERY_MARKER}{query}"
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{pool.api_base}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        answer: dict[str, Any] = json.load(response)
    return str(answer["choices"][0]["message"]["content"])


def calls_of(source: SlowWorld, asked: Sequence[Sequence[tuple[str, str]]]) -> tuple[int, float]:
    """How many, and the longest sum of one trajectory's."""
    seconds = [sum(source.reply(*call).latency_s for call in calls) for calls in asked]
    return sum(len(calls) for calls in asked), max(seconds)
