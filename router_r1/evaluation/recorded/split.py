"""Which questions of a table routers learn from, and which they are scored on.

The table's column ``split`` says it. Without one a share of each dataset's questions, drawn by seed
and table alone, is learned from, and all others are scored.

Guarantees: no text that is scored is learned from, not even from another dataset.
"""

from __future__ import annotations

from typing import NamedTuple

from router_r1.evaluation.benchmark import sample
from router_r1.evaluation.recorded.table import RecordedOutcomes
from verl.config.validation import ConfigError

DEFAULT_SHARE = 0.5


class Split(NamedTuple):
    """Positions of questions in the table, ascending."""

    train: list[int]
    test: list[int]


def split_questions(
    outcomes: RecordedOutcomes,
    share: float | None,
    seed: int,
    train_count: int,
    test_count: int | None,
) -> Split:
    """Splits a table.

    Args:
        share: of each dataset's questions to learn from; None for :data:`DEFAULT_SHARE`.
        seed: of the draw.
        train_count, test_count: at most so many of each; None for all.

    Raises:
        ConfigError: for a share beside a column ``split``, or if a side is empty.
    """
    splits = outcomes.splits
    if splits is None:
        train = _draw(outcomes, DEFAULT_SHARE if share is None else share, seed)
    elif share is None:
        train = [i for i, split in enumerate(splits) if split == "train"]
    else:
        raise ConfigError(
            f"--train_share {share:g} contradicts the table, whose column 'split' says what is "
            "learned from; leave one of them out"
        )
    learned = set(train)
    test = [i for i in range(len(outcomes.prompts)) if i not in learned]
    test = sample(test, test_count or len(test), seed)
    scored = {outcomes.prompts[i].text for i in test}
    train = [i for i in train if outcomes.prompts[i].text not in scored]
    train = sample(train, train_count, seed)
    for side, rows in (("learn from", train), ("be scored on", test)):
        if not rows:
            raise ConfigError(
                f"the table leaves no question to {side}: it has {len(outcomes.prompts)}, "
                f"{len(learned)} of them to learn from; give it more, or another --train_share"
            )
    return Split(train, test)


def _draw(outcomes: RecordedOutcomes, share: float, seed: int) -> list[int]:
    by_source: dict[str, list[int]] = {}
    for i, prompt in enumerate(outcomes.prompts):
        by_source.setdefault(prompt.data_source, []).append(i)
    drawn = [sample(rows, round(share * len(rows)), seed) for rows in by_source.values()]
    return sorted(i for rows in drawn for i in rows)
