"""What each kind of file is made of."""

from __future__ import annotations

from dataclasses import dataclass

DATASETS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")


@dataclass(frozen=True)
class Preparation:
    """One kind of file.

    Attributes:
        about: what it is, for the help.
        splits: of each source, the first that exists is taken.
        num_samples: rows per source; fewer where the source has fewer.
        file_name: with fields ``{source}`` and ``{model}``; without ``{source}`` all sources go
            into one file.
        default_sources: of ``--data_sources``.
    """

    about: str
    splits: tuple[str, ...]
    num_samples: int
    file_name: str
    default_sources: tuple[str, ...]


PREPARATIONS = {
    "train": Preparation(
        about="Training file: 7000 random training rows of each source, in one parquet file.",
        splits=("train",),
        num_samples=7000,
        file_name="train_nh_{model}.parquet",
        default_sources=("nq", "hotpotqa"),
    ),
    "validation": Preparation(
        about="Validation file: 100 random test rows of each source, in one parquet file.",
        splits=("test", "dev", "train"),
        num_samples=100,
        file_name="test_nh_{model}.parquet",
        default_sources=("nq", "hotpotqa"),
    ),
    "test": Preparation(
        about="Benchmark files: 500 random test rows of each source, one parquet file a source.",
        splits=("test", "dev", "train"),
        num_samples=500,
        file_name="test_{source}_{model}.parquet",
        default_sources=DATASETS,
    ),
}
