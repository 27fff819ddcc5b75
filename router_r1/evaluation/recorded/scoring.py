"""Baselines on a table of recorded outcomes.

The table's column ``split`` says which questions are learned from, and which are scored. Without
one a share of each dataset's questions, drawn by seed and table alone, is learned from.

Guarantees: no call is made: what a baseline's choice brings is what the table says of it; a
baseline sees of a question its text and its dataset; all are scored on the same questions; no text
that is scored is learned from, not even from another dataset.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain

from router_r1.evaluation.baselines.base import SingleShot, TrainingSet
from router_r1.evaluation.baselines.embedding import EmbeddedTexts, load_embedder
from router_r1.evaluation.baselines.fixed import SingleLLM
from router_r1.evaluation.baselines.registry import BASELINES, Setting, make_baselines
from router_r1.evaluation.benchmark import FEWEST_TO_LEARN_FROM, sample
from router_r1.evaluation.comparison import Comparison, measured_row
from router_r1.evaluation.oracle_gap import oracle_row, with_oracle_gaps
from router_r1.evaluation.recorded.table import RecordedOutcomes, read_outcomes
from router_r1.llm_agent.trajectory import QuestionRecord
from verl.config.validation import ConfigError
from verl.trainer.evaluation.records import EvaluationRecord
from verl.trajectory import TrajectoryStatus
from verl.utils.console import progress_bar

_NEEDS = {  # of baselines, what a table may lack
    "retrieval": "a retriever to ask",
    "fusion": "the column 'answer', of whose texts it takes a vote",
}


def compare_recorded(args: argparse.Namespace) -> Comparison:
    """The comparison of the baselines on the table ``args.outcomes``, and its oracle.

    Raises:
        UserError: for a table or options that cannot be used.
    """
    outcomes = read_outcomes(args.outcomes)
    train, test = split_questions(
        outcomes, args.train_share, args.seed, args.train_questions, args.test_questions
    )
    baselines = _make(args, outcomes, train)
    learners = [baseline for baseline in baselines if baseline.learns]
    if learners and len(train) < FEWEST_TO_LEARN_FROM:
        raise ConfigError(
            f"{len(train)} training questions are too few for "
            f"{', '.join(baseline.name for baseline in learners)}: at least "
            f"{FEWEST_TO_LEARN_FROM} are needed; name others with --baselines, such as "
            "random,single"
        )
    rows = []
    with progress_bar() as progress:
        if learners:
            known = _training_set(outcomes, train, args.embedder)
            for baseline in progress.track(learners, description="training"):
                baseline.fit(known)
        for baseline in progress.track(baselines, description="scoring"):
            records = [score_choice(baseline, outcomes, row) for row in test]
            rows.append(measured_row(baseline.name, baseline.kind, records))
    singles = [[score_choice(SingleLLM(n), outcomes, i) for i in test] for n in outcomes.llms]
    title = f"Recorded outcomes of {args.outcomes.name}, {len(test):,} test questions"
    comparison = Comparison(title, rows, [], quality="quality")
    return with_oracle_gaps(comparison, oracle_row(singles))


def split_questions(
    outcomes: RecordedOutcomes,
    share: float | None,
    seed: int,
    train_count: int,
    test_count: int | None,
) -> tuple[list[int], list[int]]:
    """Positions of the questions to learn from and to be scored on, ascending; at most so many of
    each, None for all. A ``share`` of None stands for the column ``split``, or half.

    Raises:
        ConfigError: for a share beside a column ``split``, or if a side is empty.
    """
    splits = outcomes.splits
    if splits is None:
        by_source: dict[str, list[int]] = {}
        for i, prompt in enumerate(outcomes.prompts):
            by_source.setdefault(prompt.data_source, []).append(i)
        share = 0.5 if share is None else share
        drawn = (sample(rows, round(share * len(rows)), seed) for rows in by_source.values())
        train = sorted(chain.from_iterable(drawn))
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
    return train, test


def _make(
    args: argparse.Namespace, outcomes: RecordedOutcomes, train: list[int]
) -> list[SingleShot]:
    """The baselines named, or all that fit; the oracle is no baseline here but always computed."""
    lacking = ["retrieval"] if outcomes.answers is not None else ["retrieval", "fusion"]
    wanted = args.baselines or [name for name in BASELINES if name not in lacking]
    if unfit := [name for name in wanted if name in lacking]:
        needs = _NEEDS[unfit[0]]
        raise ConfigError(f"the baseline {unfit[0]!r} needs {needs}; {args.outcomes} has none")
    means = outcomes.dollars[train].mean(axis=0).tolist()
    prices = dict(zip(outcomes.llms, means, strict=True))
    names = [name for name in wanted if name != "oracle"]
    made = make_baselines(names, Setting(prices, args.seed, args.carrot_lambda))
    return [baseline for baseline in made if isinstance(baseline, SingleShot)]


def _training_set(outcomes: RecordedOutcomes, rows: Sequence[int], embedder: str) -> TrainingSet:
    prompts, vectors = [outcomes.prompts[i] for i in rows], load_embedder(embedder)
    vectors.fit([prompt.text for prompt in prompts])
    known = EmbeddedTexts(vectors, [prompt.text for prompt in outcomes.prompts])
    return TrainingSet(prompts, outcomes.llms, outcomes.right[rows], outcomes.dollars[rows], known)


def score_choice(
    baseline: SingleShot, outcomes: RecordedOutcomes, row: int
) -> EvaluationRecord[QuestionRecord]:
    """What the LLMs that a baseline asks about a question brought.

    Of several, which are asked at once, the answer that the baseline takes is right as the LLM was
    that gave it; all are paid.
    """
    prompt = outcomes.prompts[row]
    asked = [outcomes.llms.index(name) for name in baseline.route(prompt)]
    taken = asked[0]
    if len(asked) > 1:
        assert outcomes.answers is not None
        given = outcomes.answers[row]
        answer = baseline.aggregate(prompt, {outcomes.llms[i]: given[i] for i in asked})
        taken = next(i for i in asked if given[i] == answer)
    scores = {
        "em": float(outcomes.right[row, taken]),
        "dollars": float(outcomes.dollars[row, asked].sum()),
        "route_cnt": float(len(asked)),
    }
    if outcomes.latency_s is not None:
        scores["latency_s"] = float(outcomes.latency_s[row, asked].max())
    uid, status = f"{prompt.data_source}/{row}", TrajectoryStatus.ANSWERED.value
    told = QuestionRecord()
    return EvaluationRecord(uid, 0, prompt.data_source, prompt.text, [], status, told, scores)
