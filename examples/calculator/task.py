"""Another agent on verl alone: a policy that adds two numbers with the help of a calculator.

It writes ``<calc>2+3</calc>`` and reads ``=5``, as often as it has turns, then
``<answer>5</answer>``. The two methods of :class:`CalculatorTask` are all that the framework needs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from verl.interfaces import GenerationEngine, RewardOutput, RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.task import Task
from verl.trajectory import AgentRecord, Segment, SegmentKind, Trajectory, TrajectoryStatus
from verl.utils.chat_template import ChatTemplate
from verl.utils.seeding import generation_seed

_TURNS = 3
_CALL = re.compile(r"<calc>(\d+)\+(\d+)</calc>$")
_ANSWER = re.compile(r"<answer>(\d+)</answer>$")


@dataclass(frozen=True)
class Calculation(AgentRecord):
    """All that the policy wrote and read, and how often the calculator had something to add."""

    text: str
    sums: int


@dataclass(frozen=True)
class CalculatorAgent:
    """Implements :class:`verl.interfaces.RolloutSource`."""

    engine: GenerationEngine
    tokenizer: Any
    turn_length: int

    def rollout(
        self,
        requests: Sequence[RolloutRequest],
        options: RolloutOptions,
        on_finished: Callable[[Trajectory], None] | None = None,
    ) -> list[Trajectory]:
        """All trajectories side by side."""

        async def one(request: RolloutRequest) -> Trajectory:
            trajectory = await self._one(request, options)
            if on_finished is not None:
                on_finished(trajectory)
            return trajectory

        async def every() -> list[Trajectory]:
            return await asyncio.gather(*map(one, requests))

        return asyncio.run(every())

    async def _one(self, request: RolloutRequest, options: RolloutOptions) -> Trajectory:
        prompt = ChatTemplate(self.tokenizer).render(request.messages).token_ids
        segments, text, sums = [Segment(SegmentKind.PROMPT, prompt)], "", 0
        for turn in range(_TURNS):
            seed = generation_seed(options.seed or 0, request.uid, request.sample_index, turn)
            sampling = options.generation(self.turn_length, ("</calc>", "</answer>"), seed)
            context = [token for segment in segments for token in segment.token_ids]
            output = await self.engine.generate(context, sampling, request.uid)
            segments.append(Segment(SegmentKind.ACTION, output.token_ids, output.log_probs))
            text += self.tokenizer.decode(output.token_ids, skip_special_tokens=True)
            if not (call := _CALL.findall(text)):
                break
            result, sums = f"={sum(map(int, call[0]))}", sums + 1
            ids = self.tokenizer.encode(result, add_special_tokens=False)
            segments.append(Segment(SegmentKind.OBSERVATION, tuple(ids)))
            text += result
        answered = bool(_ANSWER.findall(text))
        status = TrajectoryStatus.ANSWERED if answered else TrajectoryStatus.TURNS_EXHAUSTED
        record = Calculation(text, sums)
        return Trajectory(request.uid, segments, status, record, request.sample_index)


class ExactAnswer:
    """Implements :class:`verl.interfaces.RewardFunction`: 1 for the right answer; no state."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:  # noqa: ARG002
        """Scores every trajectory of ``batch``."""
        rows = zip(*(batch.non_tensor_batch[c] for c in ("record", "ground_truth")), strict=True)
        right = np.array([float(_ANSWER.findall(told.text) == [*truth]) for told, truth in rows])
        return RewardOutput(right, {"metric": right})

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing over."""


class CalculatorTask(Task):
    """Two methods; all else is the framework's."""

    record_class = Calculation
    agent_metrics: ClassVar = {"env/number_of_sums": "sums"}

    def agent(self, engine: GenerationEngine, tokenizer: Any) -> CalculatorAgent:
        """The loop of turns."""
        return CalculatorAgent(engine, tokenizer, self.config.data.max_response_length)

    def reward(self) -> ExactAnswer:
        """Exact answers."""
        return ExactAnswer()
