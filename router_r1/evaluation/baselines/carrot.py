"""A cost-aware, rate-optimal router in the manner of CARROT (Somerstep et al., 2025).

Two plug-in estimates, quality and cost of every LLM for the question at hand, and one rule: the
LLM with the highest quality - lambda * cost. Lambda = 0 buys quality alone; the larger lambda,
the cheaper the choice.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeCV

from router_r1.evaluation.baselines.contest import Prompt, SingleShot, TrainingSet

_RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)


class CarrotRouter(SingleShot):
    """Ridge regressions of quality and cost on the embedding.

    Args:
        cost_weight: lambda: quality given up to save the mean cost of the dearest LLM.
    """

    def __init__(self, cost_weight: float) -> None:
        super().__init__(f"CARROT λ={cost_weight:g}")
        self._cost_weight = cost_weight

    def fit(self, train: TrainingSet) -> None:
        """Fits both estimates."""
        self._embedder, self._llms = train.embedder, list(train.llms)
        features = train.features()
        self._quality = RidgeCV(_RIDGES).fit(features, train.quality)
        self._cost = RidgeCV(_RIDGES).fit(features, train.relative_cost)

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM with the best trade."""
        features = self._embedder.embed([prompt.text])
        value = self._quality.predict(features) - self._cost_weight * self._cost.predict(features)
        return [self._llms[int(np.argmax(value.reshape(-1)))]]
