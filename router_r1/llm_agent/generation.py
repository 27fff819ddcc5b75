"""The routing loop: one coroutine a trajectory, no barrier between turns.

A trajectory has ``max_turns`` turns that may call an LLM, and one more that may not: a search in it
gets no reply. It ends with the first answer, or when it has no turn or no room left.

Guarantees: every request yields exactly one trajectory, in request order, whatever the pool does;
each ends in one named status; the ids of a trajectory are those the engine saw and sampled; one
in which infrastructure failed a call, or the spending limit refused one, is marked as excluded.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.observer import TrajectoryObserver, TurnText
from router_r1.llm_agent.parsing import Action, parse_action
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.tags import DEFAULT_TAGS, Tags, opened_thought
from verl.interfaces import GenerationEngine, RolloutOptions, RolloutRequest
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.chat_template import ChatTemplate
from verl.utils.seeding import generation_seed

logger = logging.getLogger(__name__)
T = TypeVar("T")

_NOBODY = TrajectoryObserver()


@dataclass(frozen=True)
class GenerationLimits:
    """Budgets of a trajectory; all lengths in tokens.

    Attributes:
        max_turns: turns with routing; one more generation without follows if needed.
        max_response_length: per turn.
        max_prompt_length: whole context, prompt and response.
        max_obs_length: per observation.
    """

    max_turns: int
    max_response_length: int
    max_prompt_length: int
    max_obs_length: int


@dataclass
class _Run:
    """A trajectory in the making."""

    request: RolloutRequest
    segments: list[Segment]
    observer: TrajectoryObserver
    turns: list[Turn] = field(default_factory=list)

    @property
    def token_ids(self) -> list[int]:
        return [token for segment in self.segments for token in segment.token_ids]

    def add(self, kind: SegmentKind, ids: Sequence[int], log_probs: Sequence[float] = ()) -> None:
        self.segments.append(Segment(kind, tuple(ids), tuple(log_probs)))


class LLMGenerationManager:
    """Implements :class:`verl.interfaces.RolloutSource` for the routing agent.

    Args:
        engine: generates from token ids.
        tokenizer: the policy's.
        pool: the LLMs that can be asked.
        limits: budgets.
        api_key: see :class:`~router_r1.pool.client.PoolClient`.
        template_options: see :class:`~verl.utils.chat_template.ChatTemplate`.
        tags: that the policy writes.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        tokenizer: PreTrainedTokenizerBase,
        pool: PoolConfig,
        limits: GenerationLimits,
        api_key: str | None = None,
        template_options: Mapping[str, Any] | None = None,
        tags: Tags = DEFAULT_TAGS,
    ) -> None:
        self._engine = engine
        self._tags = tags
        self._template = ChatTemplate(tokenizer, template_options)
        self._tokenizer = tokenizer
        self._limits = limits
        # Some tokenizers hold <think> for special; it is text here all the same.
        special = [token for token in tokenizer.all_special_tokens if token not in tags.literals]
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(special))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollout", daemon=True)
        self._thread.start()
        self._client = self.run(_make_client(pool, api_key, tokenizer))

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory[RoutedTrajectory]]:
        """One trajectory per request, in order; blocks until all have ended."""

        async def one(request: RolloutRequest) -> Trajectory[RoutedTrajectory]:
            trajectory = await self.run_one(request, options)
            if on_finished is not None:
                on_finished(trajectory)
            return trajectory

        async def all_of_them() -> list[Trajectory[RoutedTrajectory]]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(request)) for request in requests]
            return [task.result() for task in tasks]

        try:
            return self.run(all_of_them())
        except ExceptionGroup as group:  # all failed for one reason: the engine
            raise group.exceptions[0] from group

    @property
    def client(self) -> PoolClient:
        """The pool's client: its ledger and budget."""
        return self._client

    def pending_tasks(self) -> int:
        """Coroutines under way on the rollout's loop; 0 between rollouts."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return self.run(count())

    def close(self) -> None:
        """Closes the pool's connections and ends the loop's thread."""
        self.run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the rollouts' event loop and blocks until it ends.

        An exception in the blocked thread (Ctrl-C) cancels it.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # -- one trajectory --------------------------------------------------------------------

    async def run_one(
        self,
        request: RolloutRequest,
        options: RolloutOptions,
        observer: TrajectoryObserver | None = None,
    ) -> Trajectory[RoutedTrajectory]:
        """One trajectory; to be awaited on the rollouts' event loop (see :meth:`run`).

        ``observer`` follows it and changes nothing about it. Cancelling ends generation and calls.
        """
        prompt = self._template.render(request.messages)
        run = _Run(request, [Segment(SegmentKind.PROMPT, prompt.token_ids)], observer or _NOBODY)
        if opened := opened_thought(prompt.text):
            run.observer.on_text(opened)
        status = TrajectoryStatus.TURNS_EXHAUSTED
        for turn in range(self._limits.max_turns + 1):
            ended = await self._turn(run, turn, options)
            if ended is not None:
                status = ended
                break
        record = RoutedTrajectory(status, tuple(run.turns), opened, prompt.neutralised, self._tags)
        trajectory = Trajectory(
            request.uid,
            run.segments,
            status,
            record,
            request.sample_index,
            excluded=any(_excludes(call.result) for call in record.calls),
        )
        run.observer.on_end(trajectory)
        return trajectory

    async def _turn(
        self, run: _Run, number: int, options: RolloutOptions
    ) -> TrajectoryStatus | None:
        """Generates and acts; the status if the trajectory ends here."""
        room = self._room(run, options)
        if room <= 0:
            return TrajectoryStatus.TRUNCATED
        stream = TurnText(run.observer, self._decode, self._tags)
        request = run.request
        output = await self._engine.generate(
            run.token_ids,
            options.generation(
                max_tokens=min(self._limits.max_response_length, room),
                stop=self._tags.stop_strings,
                seed=_turn_seed(request, number, options),
            ),
            f"{request.uid}/{request.sample_index}",
            None if run.observer is _NOBODY else stream.push,
        )
        stream.end()
        run.add(SegmentKind.ACTION, output.token_ids, output.log_probs)
        turn = Turn(self._tags.cut_after_stop(self._decode(output.token_ids)))
        run.turns.append(turn)
        action = parse_action(turn.text, self._tags)
        run.observer.on_turn_end(action)
        if action.kind == "answer":
            return TrajectoryStatus.ANSWERED
        if output.finish_reason == "length" and len(output.token_ids) >= room:
            return TrajectoryStatus.TRUNCATED
        if action.kind == "search" and number < self._limits.max_turns:
            return await self._call(run, action)
        return None

    async def _call(self, run: _Run, action: Action) -> TrajectoryStatus | None:
        """Asks, and lets the policy read the reply if there is room for it."""
        run.observer.on_call(action.llm_name, action.query)
        result = await self._client.ask(action.llm_name, action.query)
        run.observer.on_result(result)
        block = encode_observation(
            result.text, self._tokenizer, self._limits.max_obs_length, self._tags
        )
        turn = replace(run.turns[-1], call=Call(action.query, result, block.neutralised))
        fits = len(run.token_ids) + len(block.token_ids) < self._limits.max_prompt_length
        run.turns[-1] = replace(turn, observation=block.text) if fits else turn
        if not fits:
            return TrajectoryStatus.TRUNCATED
        run.add(SegmentKind.OBSERVATION, block.token_ids)
        run.observer.on_observation(block.text)
        return None

    def _room(self, run: _Run, options: RolloutOptions) -> int:
        """Tokens that the trajectory may still grow by."""
        used = len(run.token_ids)
        room = self._limits.max_prompt_length - used
        if options.max_tokens is not None:
            room = min(room, len(run.segments[0].token_ids) + options.max_tokens - used)
        return room

    def _decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids without the special tokens (end of text, chat control)."""
        kept = [token for token in ids if token not in self._special_ids]
        return str(self._tokenizer.decode(kept, clean_up_tokenization_spaces=False))


def _excludes(result: CallResult) -> bool:
    """Whether a call ended as it did for no fault of the policy's."""
    return result.outcome.infrastructure or result.outcome is Outcome.BUDGET


def _turn_seed(request: RolloutRequest, turn: int, options: RolloutOptions) -> int | None:
    if options.seed is None:
        return None
    return generation_seed(options.seed, request.uid, request.sample_index, turn)


async def _make_client(
    pool: PoolConfig, api_key: str | None, tokenizer: PreTrainedTokenizerBase
) -> PoolClient:
    """The client must be made on the loop that uses it."""
    return PoolClient(pool, api_key, lambda text: len(tokenizer.encode(text)))
