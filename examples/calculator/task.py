"""Another agent on verl alone: a policy that adds two numbers with the help of a calculator.

It writes ``<calc>2+3</calc>`` and reads ``=5``, as often as it has turns, then
``<answer>5</answer>``. The two methods of :class:`CalculatorTask` are all that the framework needs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    """What the policy wrote and read, and how often it called the calculator."""

    text: str
    num_turns: int
    valid_actions: int


class CalculatorAgent:
    """Implements :class:`verl.interfaces.RolloutSource`."""

    def __init__(self, engine: GenerationEngine, tokenizer: Any, turn_length: int) -> None:
        self._engine, self._tokenizer, self._turn_length = engine, tokenizer, turn_length
        self._template = ChatTemplate(tokenizer)

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
        segments = [Segment(SegmentKind.PROMPT, self._template.render(request.messages).token_ids)]
        text, calls, turn, status = "", 0, 0, TrajectoryStatus.TURNS_EXHAUSTED
        for turn in range(_TURNS):
            seed = generation_seed(options.seed or 0, request.uid, request.sample_index, turn)
            sampling = options.generation(self._turn_length, ("</calc>", "</answer>"), seed)
            context = [token for segment in segments for token in segment.token_ids]
            output = await self._engine.generate(context, sampling, request.uid)
            segments.append(Segment(SegmentKind.ACTION, output.token_ids, output.log_probs))
            text += self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
            call = _CALL.findall(text)
            if not call:
                status = TrajectoryStatus.ANSWERED if _ANSWER.findall(text) else status
                break
            calls, result = calls + 1, f"={sum(map(int, call[0]))}"
            ids = self._tokenizer.encode(result, add_special_tokens=False)
            segments.append(Segment(SegmentKind.OBSERVATION, tuple(ids)))
            text += result
        record = Calculation(text, turn + 1, calls)
        return Trajectory(request.uid, segments, status, record, request.sample_index)


class ExactAnswer:
    """Implements :class:`verl.interfaces.RewardFunction`: 1 for the right answer; it has no state."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:  # noqa: ARG002
        """Scores every trajectory of ``batch``."""
        columns = batch.non_tensor_batch
        right = [
            float(_ANSWER.findall(record.text) == list(truth))
            for record, truth in zip(columns["record"], columns["ground_truth"], strict=True)
        ]
        return RewardOutput(np.array(right), {"metric": np.array(right)})

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing over."""


class CalculatorTask(Task):
    """Two methods; all else is the framework's."""

    record_class = Calculation
    agent_metrics = {"env/number_of_calculations": "valid_actions"}

    def agent(self, engine: GenerationEngine, tokenizer: Any) -> CalculatorAgent:
        """The loop of turns."""
        return CalculatorAgent(engine, tokenizer, self.config.data.max_response_length)

    def reward(self) -> ExactAnswer:
        """Exact answers."""
        return ExactAnswer()
