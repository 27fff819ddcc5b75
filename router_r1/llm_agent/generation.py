"""The routing loop: turn, call, observation.

A trajectory has ``max_turns`` turns that may call an LLM, and one more that may not: a search in it
gets no reply. It ends with the first answer, or when it has no turn or no room left.

Guarantees: whatever the pool does, every trajectory ends in one named status; one in which
infrastructure failed a call, or the spending limit refused one, is marked as excluded; its calls
stay within the question's own limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from router_r1.llm_agent.observation import encode_observation
from router_r1.llm_agent.observer import TrajectoryObserver, TurnText
from router_r1.llm_agent.parsing import Action, parse_action
from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.client import PoolClient
from router_r1.pool.config import PoolConfig
from router_r1.pool.offer import OfferedPool, Offers
from router_r1.pool.outcome import Outcome
from router_r1.preference import CostPreference
from router_r1.tags import ANSWER, DEFAULT_TAGS, SEARCH, Tags, opened_thought
from verl.agents.episode import Episode
from verl.agents.loop import AgentLoop
from verl.interfaces import GenerationEngine, RolloutOptions, RolloutRequest
from verl.trajectory import Trajectory, TrajectoryStatus
from verl.utils.chat_template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOBODY = TrajectoryObserver()


@dataclass(frozen=True)
class GenerationLimits:
    """Budgets of a trajectory; all lengths in tokens.

    Attributes:
        max_turns: turns with routing; one more generation without follows if needed.
        max_response_length: per turn.
        max_prompt_length: whole context, prompt and response.
        max_obs_length: per observation.
        question: what the calls may come to.
    """

    max_turns: int
    max_response_length: int
    max_prompt_length: int
    max_obs_length: int
    question: QuestionLimit = field(default_factory=QuestionLimit)


@dataclass
class _Run:
    """A trajectory in the making."""

    episode: Episode
    observer: TrajectoryObserver
    offered: OfferedPool | None
    turns: list[Turn] = field(default_factory=list)


class LLMGenerationManager(AgentLoop[RoutedTrajectory]):
    """The routing agent; ``client`` asks the pool, and has its ledger and budget.

    Args:
        api_key: see :class:`~router_r1.pool.client.PoolClient`.
        template_options: see :class:`~verl.utils.chat_template.ChatTemplate`.
        preference: what cost counts for a request's row, where the prompt states it; None where it
            does not.
        offers: what a request's row is offered of the pool; None offers all of it as it is.
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
        preference: CostPreference | None = None,
        offers: Offers | None = None,
    ) -> None:
        super().__init__()
        self._engine, self._tokenizer = engine, tokenizer
        self._limits, self._tags = limits, tags
        self._preference, self._offers = preference, offers
        self._template = ChatTemplate(tokenizer, template_options)
        # Some tokenizers hold <think> for special; it is text here all the same.
        special = [token for token in tokenizer.all_special_tokens if token not in tags.literals]
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(special))
        self.client = self.run(_make_client(pool, api_key, tokenizer))

    async def release(self) -> None:
        """Closes the pool's connections."""
        await self.client.close()

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
        episode = Episode(
            self._engine, request, options, prompt.token_ids, self._limits.max_prompt_length
        )
        offered = None if self._offers is None else self._offers.of_row(request.row)
        run = _Run(episode, observer or _NOBODY, offered)
        if opened := opened_thought(prompt.text):
            run.observer.on_text(opened)
        for turn in range(self._limits.max_turns + 1):
            if status := await self._turn(run, may_call=turn < self._limits.max_turns):
                break
        else:
            status = TrajectoryStatus.TURNS_EXHAUSTED
        record = RoutedTrajectory(
            status,
            tuple(run.turns),
            opened,
            prompt.neutralised,
            self._tags,
            None if self._preference is None else self._preference.of_row(request.row),
            None if offered is None else offered.names,
        )
        # By no fault of the policy's.
        outcomes = [call.result.outcome for call in record.calls]
        excluded = any(one.infrastructure or one is Outcome.BUDGET for one in outcomes)
        trajectory = episode.finish(status, record, excluded)
        run.observer.on_end(trajectory)
        return trajectory

    async def _turn(self, run: _Run, may_call: bool) -> TrajectoryStatus | None:
        """Generates and acts; the status if the trajectory ends here."""
        if run.episode.room <= 0:
            return TrajectoryStatus.TRUNCATED
        stream = TurnText(run.observer, self._decode, self._tags)
        output = await run.episode.generate(
            self._limits.max_response_length,
            self._tags.stop_strings,
            None if run.observer is _NOBODY else stream.push,
        )
        stream.end()
        turn = Turn(self._tags.cut_after_stop(self._decode(output.token_ids)))
        run.turns.append(turn)
        action = parse_action(turn.text, self._tags)
        run.observer.on_turn_end(action)
        if action.kind == ANSWER:
            return TrajectoryStatus.ANSWERED
        if output.finish_reason == "length" and run.episode.room <= 0:
            return TrajectoryStatus.TRUNCATED
        if action.kind == SEARCH and may_call:
            return await self._call(run, action)
        return None

    async def _call(self, run: _Run, action: Action) -> TrajectoryStatus | None:
        """Asks, and lets the policy read the reply if there is room for it."""
        run.observer.on_call(action.llm_name, action.query)
        earlier = [turn.call.result for turn in run.turns if turn.call is not None]
        allows = partial(self._limits.question.allows, earlier)
        result = await self.client.ask(action.llm_name, action.query, run.offered, allows)
        run.observer.on_result(result)
        block = encode_observation(
            result.text, self._tokenizer, self._limits.max_obs_length, self._tags
        )
        is_read = run.episode.observe(block.token_ids)
        run.turns[-1] = replace(
            run.turns[-1],
            call=Call(action.query, result, block.neutralised),
            observation=block.text if is_read else "",
        )
        if not is_read:
            return TrajectoryStatus.TRUNCATED
        run.observer.on_observation(block.text)
        return None

    def _decode(self, ids: Sequence[int]) -> str:
        """Text of sampled ids without the special tokens (end of text, chat control)."""
        kept = [token for token in ids if token not in self._special_ids]
        return str(self._tokenizer.decode(kept, clean_up_tokenization_spaces=False))


async def _make_client(
    pool: PoolConfig, api_key: str | None, tokenizer: PreTrainedTokenizerBase
) -> PoolClient:
    """The client must be made on the loop that uses it."""
    return PoolClient(pool, api_key, lambda text: len(tokenizer.encode(text)))
