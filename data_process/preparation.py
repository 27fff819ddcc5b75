"""What the three scripts make."""

from __future__ import annotations

from dataclasses import dataclass

DATASETS = ("nq", "triviaqa", "popqa", "hotpotqa", "2wikimultihopqa", "musique", "bamboogle")


@dataclass(frozen=True)
class Preparation:
    """What one of the three scripts makes.

    Attributes:
        splits: of each source, the first that exists is taken.
        num_samples: rows per source; fewer where the source has fewer.
        file_name: with fields ``{source}`` and ``{model}``; without ``{source}`` all sources go
            into one file.
        default_sources: of ``--data_sources``.
    """

    splits: tuple[str, ...]
    num_samples: int
    file_name: str
    default_sources: tuple[str, ...]
