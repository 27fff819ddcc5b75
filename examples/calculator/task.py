"""Another agent on verl alone: a policy that adds two numbers with the help of a calculator.

It writes ``<calc>2+3</calc>`` and reads ``=5``, as often as it has turns, then
``<answer>5</answer>``. The two methods of :class:`CalculatorTask` are all that the framework needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from verl.agents.episode import Episode
from verl.agents.loop import AgentLoop
from verl.interfaces import GenerationEngine, RewardOutput, RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.task import Task
from verl.trajectory import AgentRecord, Trajectory, TrajectoryStatus
from verl.utils.chat_template import ChatTemplate

_TURNS = 3
_CALL = re.compile(r"<calc>(\d+)\+(\d+)</calc>$")
_ANSWER = re.compile(r"<answer>(\d+)</answer>$")


@dataclass(frozen=True)
class Calculation(AgentRecord):
    """All that the policy wrote and read, and how often the calculator had something to add."""

    text: str
    sums: int


class CalculatorAgent(AgentLoop[Calculation]):
    """Runs one request; the loop runs all of them side by side."""

    def __init__(self, engine: GenerationEngine, tokenizer: Any, lengths: Any) -> None:
        super().__init__()
        self._engine, self._tokenizer, self._lengths = engine, tokenizer, lengths
        self._template = ChatTemplate(tokenizer)

    async def run_one(
        self, request: RolloutRequest, options: RolloutOptions
    ) -> Trajectory[Calculation]:
        """Turns until one holds no call that a sum can be made of."""
        prompt, limit = self._template.render(request.messages), self._lengths.max_prompt_length
        episode = Episode(self._engine, request, options, prompt.token_ids, limit)
        text, sums = "", 0
        for _ in range(_TURNS):
            stop = ("</calc>", "</answer>")
            output = await episode.generate(self._lengths.max_response_length, stop)
            text += self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
            if not (call := _CALL.search(text)):
                break
            result = f"={int(call[1]) + int(call[2])}"
            if not episode.observe(self._tokenizer.encode(result, add_special_tokens=False)):
                break
            text, sums = text + result, sums + 1
        answered = _ANSWER.search(text)
        status = TrajectoryStatus.ANSWERED if answered else TrajectoryStatus.TURNS_EXHAUSTED
        return episode.finish(status, Calculation(text, sums))


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
        return CalculatorAgent(engine, tokenizer, self.config.data)

    def reward(self) -> ExactAnswer:
        """Exact answers."""
        return ExactAnswer()
