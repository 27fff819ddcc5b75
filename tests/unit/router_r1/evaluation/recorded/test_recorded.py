"""Recorded outcomes: what a table must be, how it is split, and what baselines score on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.outcomes.prepare import prepare
from router_r1.evaluation.baselines.fixed import RandomRouter
from router_r1.evaluation.benchmark import Prompt
from router_r1.evaluation.compare import main
from router_r1.evaluation.compare_options import parse_arguments
from router_r1.evaluation.oracle_gap import ORACLE
from router_r1.evaluation.recorded.scoring import score_choice, split_questions
from router_r1.evaluation.recorded.table import OutcomesError, RecordedOutcomes, read_outcomes
from verl.config.validation import ConfigError

# One question to learn from and three to be scored on: how right Dear and Cheap are.
RIGHT = {"old?": (1, 1), "a?": (1, 0), "b?": (1, 1), "c?": (0, 0.5)}
DOLLARS = {"Dear": 9e-6, "Cheap": 1e-6}
SECONDS = {"Dear": 2.0, "Cheap": 0.5}


def toy_rows() -> list[dict[str, Any]]:
    return [
        {
            "question": question,
            "llm": llm,
            "answer": f"{llm} says",
            "right": right[i],
            "cost": DOLLARS[llm],
            "latency_s": SECONDS[llm],
            "split": "train" if question == "old?" else "test",
        }
        for question, right in RIGHT.items()
        for i, llm in enumerate(DOLLARS)
    ]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pd.DataFrame(rows).to_parquet(path)
    return path


def compared(table: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Rows of the comparison by name."""
    main(["--outcomes", str(table), "--output", str(table.parent / "out"), *arguments])
    content = json.loads((table.parent / "out" / "comparison.json").read_text())
    return {row["name"]: row for row in content["rows"]}


# -- scores --------------------------------------------------------------------------------------


def test_the_comparison_by_hand(tmp_path: Path) -> None:
    rows = compared(
        write(tmp_path / "toy.csv", toy_rows()), "--baselines", "single,cheapest,largest,oracle"
    )
    assert list(rows) == ["Dear", "Cheap", "cheapest (Cheap)", "largest (Dear)", ORACLE]
    # Of a?, b?, c?: Dear 1 1 0, Cheap 0 1 0.5. The oracle asks Dear, Cheap, Cheap.
    figures = {
        name: (row["em"], row["dollars"], row["latency_s"], row["oracle_gap"])
        for name, row in rows.items()
    }
    assert figures["Dear"] == pytest.approx((2 / 3, 9e-6, 2.0, 0.2))
    assert figures["Cheap"] == pytest.approx((0.5, 1e-6, 0.5, 0.4))
    assert figures[ORACLE] == pytest.approx((2.5 / 3, 11e-6 / 3, 1.0, 0.0))
    assert rows[ORACLE]["latency_p95_s"] == pytest.approx(1.85)  # of 0.5, 0.5, 2: 1.9 of 2 steps
    assert figures["cheapest (Cheap)"] == figures["Cheap"]
    assert {(row["f1"], row["cost"], row["calls"]) for row in rows.values()} == {(None, None, 1.0)}
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def world_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documented example."""
    path = tmp_path_factory.mktemp("recorded") / "world.csv"
    prepare(path)
    return path


def test_the_baselines_are_ordered_as_theory_says(world_table: Path) -> None:
    fitting = "random,single,best,cheapest,largest,knn,mlp,carrot,graph,fusion"
    rows = compared(world_table, "--baselines", fitting)
    oracle = rows[ORACLE]
    assert oracle["oracle_gap"] == 0.0
    assert max(row["em"] for row in rows.values()) == oracle["em"]
    assert all(row["oracle_gap"] >= 0.0 for row in rows.values())
    singles = [rows[name]["em"] for name in ("Atlas", "Borealis", "Corvus", "Draco", "Electra")]
    learned = [row["em"] for row in rows.values() if row["kind"] == "learned"]
    assert len(learned) == 6
    assert max(singles) + 0.1 < min(learned)
    assert max(learned) < oracle["em"]
    assert rows["fusion of 3"]["calls"] == 3.0
    assert rows["cheapest (Fornax)"]["dollars"] == min(row["dollars"] for row in rows.values())
    carrots = [row["dollars"] for name, row in rows.items() if name.startswith("CARROT")]
    assert carrots == sorted(carrots, reverse=True)


def test_random_scores_the_mean_of_the_llms(world_table: Path) -> None:
    outcomes = read_outcomes(world_table)
    questions = range(len(outcomes.prompts))
    drawn = [
        score_choice(RandomRouter(outcomes.llms, seed), outcomes, i).scores
        for seed in range(20)
        for i in questions
    ]
    for column, values in (("em", outcomes.right), ("dollars", outcomes.dollars)):
        draws = np.array([scores[column] for scores in drawn])
        error = draws.std() / len(draws) ** 0.5
        assert draws.mean() == pytest.approx(values.mean(), abs=4 * error)


def test_a_vote_is_as_right_as_the_llm_whose_answer_it_takes() -> None:
    outcomes = RecordedOutcomes(
        [Prompt("toy", "q")],
        ["A", "B", "C"],
        np.array([[0.0, 1.0, 0.25]]),
        np.array([[1e-6, 2e-6, 4e-6]]),
        np.array([[0.5, 3.0, 1.0]]),
        [["x", "y", "y"]],
        None,
    )

    class Majority(RandomRouter):
        def route(self, prompt: Prompt) -> list[str]:  # noqa: ARG002
            return ["A", "B", "C"]

        def aggregate(self, prompt: Prompt, answers: dict[str, str]) -> str:  # noqa: ARG002
            return max(answers.values(), key=list(answers.values()).count)

    scores = score_choice(Majority(outcomes.llms, 0), outcomes, 0).scores
    assert scores == {
        "em": 1.0,
        "dollars": pytest.approx(7e-6),
        "route_cnt": 3.0,
        "latency_s": 3.0,
    }


# -- the split -----------------------------------------------------------------------------------


def untold(texts: Sequence[str], sources: Sequence[str]) -> RecordedOutcomes:
    ones = np.ones((len(texts), 1))
    prompts = [Prompt(source, text) for source, text in zip(sources, texts, strict=True)]
    return RecordedOutcomes(prompts, ["A"], ones, ones, None, None, None)


def test_without_a_column_a_share_of_each_dataset_is_learned_from() -> None:
    outcomes = untold([f"{i}?" for i in range(30)], ["one"] * 20 + ["two"] * 10)
    train, test = split_questions(outcomes, None, 0, 600, None)
    assert (sum(i < 20 for i in train), sum(i >= 20 for i in train)) == (10, 5)
    assert sorted([*train, *test]) == list(range(30))
    assert split_questions(outcomes, None, 0, 600, None) == (train, test)
    assert split_questions(outcomes, None, 1, 600, None) != (train, test)
    train, test = split_questions(outcomes, 0.2, 0, 3, 7)
    assert (len(train), len(test)) == (3, 7)
    assert not set(train) & set(test)


def test_what_is_scored_is_not_learned_from_in_another_dataset() -> None:
    outcomes = untold(["a?", "b?"] * 20, ["one"] * 20 + ["two"] * 20)
    with pytest.raises(ConfigError, match="no question to learn from"):
        split_questions(outcomes, None, 0, 600, None)


def test_the_tables_own_split_is_kept(tmp_path: Path) -> None:
    outcomes = read_outcomes(write(tmp_path / "toy.parquet", toy_rows()))
    assert split_questions(outcomes, None, 0, 600, None) == ([0], [1, 2, 3])
    with pytest.raises(ConfigError, match=r"--train_share 0\.3 contradicts.*'split'"):
        split_questions(outcomes, 0.3, 0, 600, None)
    rows = [row | {"split": "train"} for row in toy_rows()]
    with pytest.raises(ConfigError, match="no question to be scored on"):
        split_questions(read_outcomes(write(tmp_path / "all.csv", rows)), None, 0, 600, None)


# -- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_says_the_same(tmp_path: Path, suffix: str) -> None:
    outcomes = read_outcomes(write(tmp_path / f"toy.{suffix}", toy_rows()))
    assert outcomes.prompts == [Prompt("recorded", text) for text in RIGHT]
    assert outcomes.llms == ["Dear", "Cheap"]
    assert outcomes.right.tolist() == [list(pair) for pair in RIGHT.values()]
    assert outcomes.dollars.tolist() == [list(DOLLARS.values())] * 4
    assert outcomes.latency_s is not None
    assert outcomes.latency_s.tolist() == [list(SECONDS.values())] * 4
    assert outcomes.answers == [["Dear says", "Cheap says"]] * 4
    assert outcomes.splits == ["train", "test", "test", "test"]


def test_a_question_is_told_apart_by_its_dataset_and_columns_may_be_left_out(
    tmp_path: Path,
) -> None:
    rows = [
        {"data_source": source, "question": "a?", "llm": "A", "right": True, "cost": 0}
        for source in ("one", "two")
    ]
    outcomes = read_outcomes(write(tmp_path / "rows.jsonl", rows))
    assert outcomes.prompts == [Prompt("one", "a?"), Prompt("two", "a?")]
    assert outcomes.right.tolist() == [[1.0], [1.0]]
    assert (outcomes.latency_s, outcomes.answers, outcomes.splits) == (None, None, None)


@pytest.mark.parametrize(
    ("row", "changed", "message"),
    [
        (3, {"right": "yes"}, r"row 4, column 'right': 'yes' is not a number from 0 to 1"),
        (3, {"right": 1.5}, r"row 4, column 'right': 1\.5 is not a number from 0 to 1"),
        (0, {"cost": -1e-6}, r"row 1, column 'cost': -1e-06 is not a number of dollars"),
        (0, {"cost": "nan"}, r"row 1, column 'cost': .*nan.* is not a number of dollars"),
        (5, {"latency_s": ""}, r"row 6, column 'latency_s': '' is not a number of seconds"),
        (2, {"llm": " "}, r"row 3, column 'llm': ' ' is not a text that is not empty"),
        (7, {"split": "dev"}, r"row 8, column 'split': 'dev' is not train or test"),
        (7, {"split": "train"}, r"row 8, column 'split': 'train', but row 7 of the same question"),
        (
            3,
            {"llm": "Dear"},
            r"row 4 repeats row 3: .*'question' 'a\?' and column 'llm' 'Dear'",
        ),
        (3, {"llm": "Odd"}, r"no row with column 'llm' 'Odd' for the question of row 1, 'old\?'"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_first_wrong_value_is_named(
    tmp_path: Path, suffix: str, row: int, changed: dict[str, Any], message: str
) -> None:
    rows = toy_rows()
    rows[row] |= changed
    with pytest.raises(OutcomesError, match=message):
        read_outcomes(write(tmp_path / f"toy.{suffix}", rows))


def test_columns_and_pairs_that_are_wrong_are_named(tmp_path: Path) -> None:
    def refused(rows: list[dict[str, Any]], message: str, suffix: str = "csv") -> None:
        with pytest.raises(OutcomesError, match=message):
            read_outcomes(write(tmp_path / f"toy.{suffix}", rows))

    rows = toy_rows()
    refused([row | {"model": "x"} for row in rows], r"row 1 has the unknown column 'model'; .*llm")
    bare = [{k: v for k, v in row.items() if k != "cost"} for row in rows]
    refused(bare, r"row 1 lacks the column 'cost'")
    refused([*rows[:4], *bare[4:]], r"row 5 lacks the column 'cost'", "jsonl")
    few = [{k: v for k, v in row.items() if k != "answer"} for row in rows]
    refused([*few[:2], *rows[2:]], r"row 3 has the column 'answer', which row 1 lacks", "jsonl")
    refused(rows[:-1], r"no row with column 'llm' 'Cheap' for the question of row 7, 'c\?'")
    (tmp_path / "toy.csv").write_text("question,llm,right,cost\na?,A,1\n")
    with pytest.raises(OutcomesError, match="row 1 has 3 fields, and the header 4"):
        read_outcomes(tmp_path / "toy.csv")
    (tmp_path / "toy.csv").write_text("question,llm,llm,cost\n")
    with pytest.raises(OutcomesError, match="the column 'llm' twice"):
        read_outcomes(tmp_path / "toy.csv")
    (tmp_path / "toy.jsonl").write_text('{"question": "a?"}\n[]\n')
    with pytest.raises(OutcomesError, match="row 2 must be a JSON object"):
        read_outcomes(tmp_path / "toy.jsonl")
    (tmp_path / "toy.parquet").write_text("no parquet")
    with pytest.raises(OutcomesError, match="is no parquet file"):
        read_outcomes(tmp_path / "toy.parquet")
    for name, message in (("none.csv", "no such file"), ("toy.xls", r"\.csv, \.jsonl, \.parquet")):
        with pytest.raises(OutcomesError, match=message):
            read_outcomes(tmp_path / name)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(OutcomesError, match="holds no row"):
        read_outcomes(tmp_path / "empty.csv")


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--outcomes", "t.csv", "--pool", "mine"], r"--pool cannot be given with it"),
        (["--outcomes", "t.csv", "--router", "a=b", "--world"], r"--world, --router cannot"),
        (["--train_share", "0.5"], r"--train_share splits a table"),
    ],
)
def test_options_that_do_not_go_with_a_table(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(arguments)


def test_a_table_has_a_folder_of_its_own() -> None:
    args = parse_arguments(["--outcomes", "data/mine.jsonl", "--train_share", "0.25"])
    assert args.output == Path("outputs/outcomes/mine")
    assert parse_arguments([]).output == Path("outputs/quickstart/eval")


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ("retrieval", "needs a retriever"),
        ("fusion", "needs the column 'answer'"),
        ("knn,best", "1 training questions are too few for best, kNN"),
        ("nonsense", "no such baseline: nonsense"),
    ],
)
def test_baselines_that_a_table_cannot_have_are_refused(
    tmp_path: Path, baselines: str, message: str
) -> None:
    rows = [{k: v for k, v in row.items() if k != "answer"} for row in toy_rows()]
    with pytest.raises(ConfigError, match=message):
        compared(write(tmp_path / "toy.csv", rows), "--baselines", baselines)
