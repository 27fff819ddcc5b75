"""Routers that learn from the embeddings of training questions which LLM to ask."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import defaultdict
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

from router_r1.evaluation.baselines.base import SingleShot, TrainingSet
from router_r1.evaluation.benchmark import Prompt
from router_r1.reward.normalization import normalize_answer

# Counts added to each cluster: so few questions there do not make certain.
_PRIOR_QUESTIONS = 2.0


class LearnedRouter(SingleShot):
    """Asks the LLMs that promise most, ``asked`` of them."""

    kind = "learned"
    learns = True
    asked = 1

    def fit(self, train: TrainingSet) -> None:
        """Learns what each LLM promises."""
        self._embedder, self._llms = train.embedder, list(train.llms)
        self._learn(train, train.embedder.embed([prompt.text for prompt in train.prompts]))

    @abstractmethod
    def _learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Fits the estimate; ``features`` are (questions, dimensions)."""

    @abstractmethod
    def _promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:
        """What each LLM promises for the question: (llms,); ``features`` are (1, dimensions)."""

    def _promises(self, prompt: Prompt) -> dict[str, float]:
        """By LLM, the highest first."""
        promise = self._promise(prompt, self._embedder.embed([prompt.text])).tolist()
        pairs = zip(self._llms, promise, strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def route(self, prompt: Prompt) -> list[str]:
        """The LLMs with the highest promises, best first."""
        return list(self._promises(prompt))[: self.asked]


class RegressionRouter(LearnedRouter):
    """Estimates the quality of each LLM for the question at hand with a regressor of scikit-learn,
    and with a ``cost_weight``, the quality given up to save the mean cost of the dearest LLM, its
    cost; promises quality - ``cost_weight`` * cost."""

    def __init__(self, name: str, model: Any, cost_weight: float = 0.0) -> None:
        super().__init__(name)
        self._model, self._cost_weight = model, cost_weight

    def _learn(self, train: TrainingSet, features: np.ndarray) -> None:
        wanted = [train.quality, train.relative_cost] if self._cost_weight else [train.quality]
        if len(self._llms) == 1:
            wanted = [values[:, 0] for values in wanted]  # one output has no axis of its own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # epochs and batches are upper bounds
            self._fitted = [clone(self._model).fit(features, values) for values in wanted]

    def _promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        quality, *cost = (np.ravel(model.predict(features)) for model in self._fitted)
        return quality - self._cost_weight * cost[0] if cost else quality


def knn_router() -> RegressionRouter:
    """Mean quality over the 20 training questions most like this one."""
    return RegressionRouter("kNN", KNeighborsRegressor(20, metric="cosine"))


def mlp_router(seed: int) -> RegressionRouter:
    """A perceptron with one layer of 64 units, trained with Adam on the squared error until the
    loss stalls, at most 150 epochs."""
    model = MLPRegressor(
        hidden_layer_sizes=(64,),
        alpha=0.3,
        learning_rate_init=3e-3,
        batch_size=64,
        max_iter=150,
        tol=1e-5,
        random_state=seed,
    )
    return RegressionRouter("MLP", model)


def carrot_router(cost_weight: float) -> RegressionRouter:
    """A cost-aware, rate-optimal router in the manner of CARROT (Somerstep et al., 2025): two
    plug-in estimates, both ridge regressions. A weight (lambda) of 0 buys quality alone."""
    model = RidgeCV((0.1, 0.3, 1.0, 3.0, 10.0))
    return RegressionRouter(f"CARROT λ={cost_weight:g}", model, cost_weight)


class FusionRouter(LearnedRouter):
    """Fusion of several LLMs' answers in the manner of FusionFactory (Feng et al., 2025).

    Training questions are clustered by embedding; in each cluster every LLM gets a weight by how
    well it did there. A question asks the LLMs with the highest weights in its cluster, and their
    normalised answers are put to a weighted vote. The weight of an LLM that is right with
    probability p is -log(1 - p): two LLMs that agree, each wrong with probability 1/2, outvote one
    that is wrong with probability 0.3. ``seed`` is of the clustering; ``asked`` LLMs are asked a
    question, fewer in a smaller pool.
    """

    kind = "fusion"

    def __init__(self, seed: int, asked: int = 3) -> None:
        super().__init__(f"fusion of {asked}")
        self._seed, self.asked = seed, asked

    def _learn(self, train: TrainingSet, features: np.ndarray) -> None:
        # At most 24 clusters, of at least 20 questions on average.
        count = max(1, min(24, len(train.prompts) // 20))
        self._model = KMeans(count, n_init=4, random_state=self._seed)
        member_of = self._model.fit_predict(features)
        prior = _PRIOR_QUESTIONS * train.quality.mean(axis=0)
        groups = [train.quality[member_of == cluster] for cluster in range(count)]
        shares = [(q.sum(axis=0) + prior) / (len(q) + _PRIOR_QUESTIONS) for q in groups]
        self._weights: np.ndarray = -np.log1p(-np.clip(shares, 0.0, 1 - 1e-6))

    def _promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        return np.asarray(self._weights[int(self._model.predict(features)[0])])

    def aggregate(self, prompt: Prompt, answers: dict[str, str]) -> str:
        """The answer with the most weight, as its weightiest supporter wrote it."""
        votes: defaultdict[str, float] = defaultdict(float)
        written: dict[str, str] = {}
        for llm, weight in self._promises(prompt).items():
            if llm in answers:
                key = normalize_answer(answers[llm])
                votes[key] += weight
                written.setdefault(key, answers[llm])
        return written[max(votes, key=lambda key: votes[key])] if votes else ""
