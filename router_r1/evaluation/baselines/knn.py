"""k nearest neighbours: the LLM that did best on the training questions most like this one."""

from __future__ import annotations

from sklearn.neighbors import KNeighborsRegressor

from router_r1.evaluation.baselines.contest import Prompt, SingleShot, TrainingSet


class KNNRouter(SingleShot):
    """Mean quality over the neighbours; argmax over the LLMs.

    Args:
        neighbours: how many; fewer where there are fewer training questions.
    """

    def __init__(self, neighbours: int = 20) -> None:
        super().__init__("kNN")
        self._neighbours = neighbours

    def fit(self, train: TrainingSet) -> None:
        """Keeps the training questions."""
        self._embedder, self._llms = train.embedder, list(train.llms)
        count = min(self._neighbours, len(train.prompts))
        self._model = KNeighborsRegressor(count, metric="cosine")
        self._model.fit(train.features(), train.quality)

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM with the best estimate."""
        quality = self._model.predict(self._embedder.embed([prompt.text]))[0]
        return [self._llms[int(quality.argmax())]]
