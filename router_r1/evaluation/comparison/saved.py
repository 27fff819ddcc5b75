"""Routers that were evaluated before, on the questions of this comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router_r1.evaluation.comparison.file import read_json_object
from router_r1.evaluation.comparison.questions import Question
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, read_parquet
from verl.trajectory import AgentRecord

PROMPT_ONLY = ("prompt", "prompt-only", "untrained")


def kind_of(name: str) -> str:
    """ "prompt" for the names of an untrained policy, else "router"."""
    return "prompt" if name.lower() in PROMPT_ONLY else "router"


def read_saved(
    folder: Path, questions: Sequence[Question], normalization: str = "paper"
) -> list[EvaluationRecord]:
    """The evaluation's scored records of these questions, without what the agent told.

    Raises:
        RecordError: if there is no evaluation, if it lacks one of the questions, or if its answers
            were normalised otherwise: such rows cannot be compared.
    """
    path = folder / "questions.parquet"
    results = read_json_object(folder / "results.json") or {}
    scored_with = results.get("normalization", "paper")
    if scored_with != normalization:
        raise RecordError(
            f"{folder} was scored with reward.normalization={scored_with}, and this comparison "
            f"with --normalization {normalization}; score again, or compare with {scored_with}"
        )
    wanted = {(q.prompt.data_source, q.prompt.text) for q in questions}
    records = [r for r in read_parquet(path, AgentRecord) if (r.data_source, r.question) in wanted]
    missing = wanted - {(r.data_source, r.question) for r in records}
    if missing:
        raise RecordError(
            f"{path} lacks {len(missing)} of the {len(wanted)} questions compared on, such as "
            f"{min(missing)[1]!r}; evaluate the router on the same questions, or compare on fewer "
            "with --test_files"
        )
    return records
