"""Routers that learn from the embeddings of training questions which LLM to ask."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections import defaultdict

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor

from router_r1.evaluation.baselines.base import SingleShot, TrainingSet
from router_r1.evaluation.benchmark import Prompt
from router_r1.reward.normalization import normalize_answer

_RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)
# Counts added to each cluster: so few questions there do not make certain.
_PRIOR_QUESTIONS = 2.0


class LearnedRouter(SingleShot):
    """Asks the LLM that promises most."""

    kind = "learned"
    learns = True

    def fit(self, train: TrainingSet) -> None:
        """Learns what each LLM promises."""
        self._embedder, self._llms = train.embedder, list(train.llms)
        self.learn(train, train.features())

    @abstractmethod
    def learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Fits the estimate; ``features`` are (questions, dimensions)."""

    @abstractmethod
    def promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:
        """What each LLM promises for the question: (llms,); ``features`` are (1, dimensions)."""

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM with the highest promise."""
        promise = self.promise(prompt, self._embedder.embed([prompt.text]))
        return [self._llms[int(np.argmax(promise))]]


class KNNRouter(LearnedRouter):
    """Mean quality over the training questions most like this one.

    Args:
        neighbours: how many; fewer where there are fewer training questions.
    """

    def __init__(self, neighbours: int = 20) -> None:
        super().__init__("kNN")
        self._neighbours = neighbours

    def learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Keeps the training questions."""
        count = min(self._neighbours, len(train.prompts))
        self._model = KNeighborsRegressor(count, metric="cosine").fit(features, train.quality)

    def promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Quality."""
        return np.asarray(self._model.predict(features)[0])


class MLPRouter(LearnedRouter):
    """A multi-layer perceptron with one hidden layer and squared error.

    Args:
        seed: of weights and batches.
        hidden: units.
        epochs: at most.
    """

    def __init__(self, seed: int, hidden: int = 64, epochs: int = 150) -> None:
        super().__init__("MLP")
        self._seed = seed
        self._hidden = hidden
        self._epochs = epochs

    def learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Trains with Adam until the loss stalls."""
        self._model = MLPRegressor(
            hidden_layer_sizes=(self._hidden,),
            alpha=0.3,
            learning_rate_init=3e-3,
            batch_size=min(64, len(train.prompts)),
            max_iter=self._epochs,
            tol=1e-5,
            random_state=self._seed,
        )
        quality = train.quality if len(self._llms) > 1 else train.quality[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a bound
            self._model.fit(features, quality)

    def promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Quality."""
        return np.asarray(self._model.predict(features)).reshape(-1)


class CarrotRouter(LearnedRouter):
    """A cost-aware, rate-optimal router in the manner of CARROT (Somerstep et al., 2025).

    Two plug-in estimates, quality and cost of every LLM for the question at hand, both ridge
    regressions, and one rule: the LLM with the highest quality - lambda * cost. Lambda = 0 buys
    quality alone; the larger lambda, the cheaper the choice.

    Args:
        cost_weight: lambda: quality given up to save the mean cost of the dearest LLM.
    """

    def __init__(self, cost_weight: float) -> None:
        super().__init__(f"CARROT λ={cost_weight:g}")
        self._cost_weight = cost_weight

    def learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Fits both estimates."""
        self._quality = RidgeCV(_RIDGES).fit(features, train.quality)
        self._cost = RidgeCV(_RIDGES).fit(features, train.relative_cost)

    def promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """The trade."""
        quality, cost = self._quality.predict(features), self._cost.predict(features)
        return np.asarray(quality - self._cost_weight * cost).reshape(-1)


class FusionRouter(LearnedRouter):
    """Fusion of several LLMs' answers in the manner of FusionFactory (Feng et al., 2025).

    Training questions are clustered by embedding; in each cluster every LLM gets a weight by how
    well it did there. A question asks the LLMs with the highest weights in its cluster, and their
    normalised answers are put to a weighted vote. The weight of an LLM that is right with
    probability p is -log(1 - p): two LLMs that agree, each wrong with probability 1/2, outvote one
    that is wrong with probability 0.3.

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

    def learn(self, train: TrainingSet, features: np.ndarray) -> None:
        """Clusters the questions and weighs the LLMs in each cluster."""
        count = max(1, min(self._clusters, len(train.prompts) // 20))
        self._model = KMeans(count, n_init=4, random_state=self._seed)
        member_of = self._model.fit_predict(features)
        prior = _PRIOR_QUESTIONS * train.quality.mean(axis=0)
        shares = [
            (train.quality[member_of == cluster].sum(axis=0) + prior)
            / ((member_of == cluster).sum() + _PRIOR_QUESTIONS)
            for cluster in range(count)
        ]
        self._weights = -np.log1p(-np.clip(shares, 0.0, 1 - 1e-6))

    def promise(self, prompt: Prompt, features: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """The weights of the question's cluster."""
        weights: np.ndarray = self._weights[int(self._model.predict(features)[0])]
        return weights

    def _weights_for(self, prompt: Prompt) -> dict[str, float]:
        weights = self.promise(prompt, self._embedder.embed([prompt.text]))
        return dict(zip(self._llms, weights.tolist(), strict=True))

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
