"""Fusion of several LLMs' answers in the manner of FusionFactory (Feng et al., 2025).

Training questions are clustered by embedding; in each cluster every LLM gets a weight by how well
it did there. A question asks the LLMs with the highest weights in its cluster, and their
normalised answers are put to a weighted vote. The weight of an LLM that is right with probability
p is -log(1 - p): two LLMs that agree, each wrong with probability 1/2, outvote one that is wrong
with probability 0.3.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from sklearn.cluster import KMeans

from router_r1.evaluation.baselines.contest import Prompt, SingleShot, TrainingSet
from router_r1.reward.normalization import normalize_answer

# Counts added to each cluster: so few questions there do not make certain.
_PRIOR_QUESTIONS = 2.0


class FusionRouter(SingleShot):
    """Asks several, answers by weighted vote.

    Args:
        seed: of the clustering.
        asked: LLMs per question; fewer in a smaller pool.
        clusters: at most; at least 20 training questions each.
    """

    kind = "fusion"

    def __init__(self, seed: int, asked: int = 3, clusters: int = 24) -> None:
        super().__init__(f"fusion of {asked}")
        self._seed = seed
        self._asked = asked
        self._clusters = clusters

    def fit(self, train: TrainingSet) -> None:
        """Clusters the questions and weighs the LLMs in each cluster."""
        self._embedder, self._llms = train.embedder, list(train.llms)
        count = max(1, min(self._clusters, len(train.prompts) // 20))
        self._model = KMeans(count, n_init=4, random_state=self._seed)
        member_of = self._model.fit_predict(train.features())
        overall = train.quality.mean(axis=0)
        self._weights = np.zeros((count, len(self._llms)))
        for cluster in range(count):
            quality = train.quality[member_of == cluster]
            right = quality.sum(axis=0) + _PRIOR_QUESTIONS * overall
            share = right / (len(quality) + _PRIOR_QUESTIONS)
            self._weights[cluster] = -np.log1p(-np.clip(share, 0.0, 1 - 1e-6))

    def _weights_for(self, prompt: Prompt) -> dict[str, float]:
        cluster = int(self._model.predict(self._embedder.embed([prompt.text]))[0])
        return dict(zip(self._llms, self._weights[cluster].tolist(), strict=True))

    def route(self, prompt: Prompt) -> list[str]:
        """The LLMs with the highest weights, best first."""
        weights = self._weights_for(prompt)
        return sorted(weights, key=lambda llm: -weights[llm])[: self._asked]

    def aggregate(self, prompt: Prompt, answers: dict[str, str]) -> str:
        """The answer with the most weight, as its weightiest supporter wrote it."""
        weights = self._weights_for(prompt)
        votes: defaultdict[str, float] = defaultdict(float)
        written: dict[str, str] = {}
        for llm in sorted(answers, key=lambda llm: -weights[llm]):
            key = normalize_answer(answers[llm])
            votes[key] += weights[llm]
            written.setdefault(key, answers[llm])
        return written[max(votes, key=lambda key: votes[key])] if votes else ""
