"""A multi-layer perceptron from the question's embedding to the quality of every LLM."""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from router_r1.evaluation.baselines.contest import Prompt, SingleShot, TrainingSet


class MLPRouter(SingleShot):
    """One hidden layer, squared error; argmax over the LLMs.

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

    def fit(self, train: TrainingSet) -> None:
        """Trains with Adam until the loss stalls."""
        self._embedder, self._llms = train.embedder, list(train.llms)
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
            self._model.fit(train.features(), quality)

    def route(self, prompt: Prompt) -> list[str]:
        """The LLM with the best estimate."""
        quality = self._model.predict(self._embedder.embed([prompt.text])).reshape(-1)
        return [self._llms[int(quality.argmax())]]
