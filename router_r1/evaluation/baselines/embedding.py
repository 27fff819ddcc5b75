"""Questions as vectors. The default needs no download; any class with this face can replace it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import Normalizer

from verl.config.validation import ConfigError

_DIMENSIONS = 32


@runtime_checkable
class Embedder(Protocol):
    """Made without arguments, fitted once, then asked."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learns from the training questions; nothing to do for a pretrained encoder."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions), one vector a text, independent of the other texts."""
        ...


class TfidfEmbedder:
    """TF-IDF over word and character n-grams, reduced to its leading directions, unit length.

    N-grams of a single question say nothing about others and are left out.
    """

    def fit(self, texts: Sequence[str]) -> None:
        """Learns vocabulary and directions."""
        rare = max(2, len(texts) // 100)
        grams = make_union(
            TfidfVectorizer(ngram_range=(1, 2), min_df=rare, sublinear_tf=True),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=rare, sublinear_tf=True),
        )
        width = grams.fit_transform(texts).shape[1]
        dimensions = max(1, min(_DIMENSIONS, width - 1, len(texts) - 1))
        directions = TruncatedSVD(dimensions, random_state=0)
        self._pipeline = make_pipeline(grams, directions, Normalizer(copy=False)).fit(texts)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions) in float64."""
        return np.asarray(self._pipeline.transform(texts))


class EmbeddedTexts:
    """All texts that will be asked for, embedded in one go by a fitted ``embedder``."""

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        self._vectors = dict(zip(texts, embedder.embed(texts), strict=True))

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to do: the embedder was fitted."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions), as the embedder gave them; KeyError for another text."""
        return np.stack([self._vectors[text] for text in texts])


def load_embedder(path: str) -> Embedder:
    """Makes the embedder that ``package.module.Class`` names.

    Raises:
        ConfigError: if it cannot be imported or lacks ``fit`` and ``embed``.
    """
    module, _, name = path.rpartition(".")
    try:
        embedder = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"--embedder {path!r} cannot be made: {error}") from error
    if not isinstance(embedder, Embedder):
        raise ConfigError(f"--embedder {path!r} has no fit and embed")
    return embedder
