"""A graph router in the manner of GraphRouter (Feng et al., ICLR 2025).

A heterogeneous graph has a node per task (dataset), per question and per LLM; edges join a
question to its task and, where an outcome is known, to an LLM, carrying that outcome's quality
and cost. Messages flow question -> LLM over known outcomes, question -> task, then task and LLM ->
question; a head predicts quality and cost of the edge between any question and any LLM. In
training a random half of the questions shows its outcomes and the other half has them predicted,
so that the net is used as it was trained: on questions without outcomes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from router_r1.evaluation.baselines.base import TrainingSet
from router_r1.evaluation.baselines.learned import LearnedRouter
from router_r1.evaluation.benchmark import Prompt

_CHOICE_COST_WEIGHT = 0.02  # decides between LLMs of like quality


class GraphNet(nn.Module):
    """One round of messages and the edge head, over so many ``tasks`` and ``llms`` and questions
    with so many ``features``; hidden states have the same ``width``."""

    def __init__(self, features: int, tasks: int, llms: int, width: int = 32) -> None:
        super().__init__()
        self.task = nn.Parameter(torch.randn(tasks, width) * 0.1)
        self.llm = nn.Parameter(torch.randn(llms, width) * 0.1)
        self.question = nn.Linear(features, width)
        self.outcome_message = nn.Linear(width + 2, width)
        self.llm_update = nn.Linear(2 * width, width)
        self.task_update = nn.Linear(2 * width, width)
        self.question_update = nn.Linear(3 * width, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def nodes(self, features: Tensor, tasks: Tensor, outcomes: Tensor) -> tuple[Tensor, Tensor]:
        """States of task and LLM nodes after messages from questions with known outcomes.

        Args:
            features: (questions, features).
            tasks: (questions,) row of each question's task.
            outcomes: (questions, llms, 2) quality and cost.
        """
        questions = torch.relu(self.question(features))
        spread = questions[:, None].expand(-1, outcomes.shape[1], -1)
        messages = torch.relu(self.outcome_message(torch.cat([spread, outcomes], dim=-1)))
        # Weighing by quality tells an LLM which questions it is good at.
        quality = outcomes[..., :1]
        heard = (messages * quality).sum(dim=0) / quality.sum(dim=0).clamp(min=1.0)
        llms = self.llm + torch.relu(self.llm_update(torch.cat([self.llm, heard], dim=-1)))
        members = nn.functional.one_hot(tasks, len(self.task)).to(features.dtype)
        means = (members.T @ questions) / members.sum(dim=0).clamp(min=1.0)[:, None]
        states = self.task + torch.relu(self.task_update(torch.cat([self.task, means], dim=-1)))
        return states, llms

    def edges(self, features: Tensor, tasks: Tensor, nodes: tuple[Tensor, Tensor]) -> Tensor:
        """(questions, llms, 2): predicted quality (a logit) and cost of every edge."""
        states, llms = nodes
        own = torch.relu(self.question(features))
        attention = torch.softmax(own @ llms.T / own.shape[-1] ** 0.5, dim=-1)
        received = torch.cat([own, states[tasks], attention @ llms], dim=-1)
        questions = own + torch.relu(self.question_update(received))
        left = questions[:, None].expand(-1, len(llms), -1)
        right = llms[None].expand(len(questions), -1, -1)
        return self.head(torch.cat([left, right, left * right], dim=-1))  # type: ignore[no-any-return]


class GraphRouter(LearnedRouter):
    """Routes to the LLM whose edge promises most; ``seed`` is of the weights and of which half
    shows its outcomes, ``epochs`` are full-batch steps."""

    def __init__(self, seed: int, epochs: int = 300) -> None:
        super().__init__("graph")
        self._seed, self._epochs = seed, epochs

    def _learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Trains the net, then runs the messages once with all outcomes shown."""
        names = sorted({prompt.data_source for prompt in train.prompts})
        self._task_of = {name: row for row, name in enumerate(names)}
        seen = torch.tensor(features, dtype=torch.float32)
        tasks = torch.tensor([self._task_of[prompt.data_source] for prompt in train.prompts])
        quality = torch.tensor(train.quality, dtype=torch.float32)
        cost = torch.tensor(train.relative_cost, dtype=torch.float32)
        outcomes = torch.stack([quality, cost], dim=-1)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # tensors so small lose more to waiting threads than they win
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._seed)
                self._net = GraphNet(seen.shape[1], len(names), len(self._llms))
                self._train(seen, tasks, outcomes)
        finally:
            torch.set_num_threads(threads)
        with torch.no_grad():
            self._nodes = self._net.nodes(seen, tasks, outcomes)

    def _train(self, features: Tensor, tasks: Tensor, outcomes: Tensor) -> None:
        optimizer = torch.optim.AdamW(self._net.parameters(), lr=5e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._epochs)
        for _ in range(self._epochs):
            order = torch.randperm(len(features))
            shown, hidden = order[: len(order) // 2], order[len(order) // 2 :]
            nodes = self._net.nodes(features[shown], tasks[shown], outcomes[shown])
            predicted = self._net.edges(features[hidden], tasks[hidden], nodes)
            wanted = outcomes[hidden]
            loss = nn.functional.binary_cross_entropy_with_logits(predicted[..., 0], wanted[..., 0])
            loss = loss + nn.functional.mse_loss(predicted[..., 1], wanted[..., 1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def _promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:
        """Of each edge; a dataset without training questions has the mean task."""
        states, llms = self._nodes
        row = self._task_of.get(prompt.data_source)
        task = states[row] if row is not None else states.mean(dim=0)
        own, first = torch.tensor(features, dtype=torch.float32), torch.zeros(1, dtype=torch.int64)
        with torch.no_grad():
            edges = self._net.edges(own, first, (task[None], llms))
        return (edges[0, :, 0].sigmoid() - _CHOICE_COST_WEIGHT * edges[0, :, 1]).numpy()
