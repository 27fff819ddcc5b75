from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from router_r1.evaluation.answer import Answer, to_record
from router_r1.evaluation.benchmark import (
    kind_of,
    read_questions,
    read_saved,
    sample,
    world_questions,
)
from router_r1.evaluation.compare_options import parse_arguments
from router_r1.evaluation.comparison import (
    Row,
    measured_row,
    read_comparison,
    sweep_points,
    write_comparison,
)
from router_r1.evaluation.comparison_tables import comparison_tables
from router_r1.evaluation.expected import expected_rows
from router_r1.llm_agent.trajectory import QuestionRecord
from router_r1.pool.config import PoolConfig
from router_r1.reward.normalization import NORMALIZATIONS
from router_r1.world.dataset import write_world
from router_r1.world.oracle import Oracle
from router_r1.world.simulated_llm import World
from tests.comparisons import toy_comparison
from tests.routed import call, routed
from verl.config.validation import ConfigError
from verl.trainer.evaluation.records import EvaluationRecord, RecordError, write_parquet
from verl.utils.dataset import DataError


def record(source: str, number: int, em: float, dollars: float) -> EvaluationRecord:
    scores = {"em": em, "f1": em, "cost": dollars * 1e6, "dollars": dollars, "route_cnt": 2.0}
    return EvaluationRecord(
        f"{source}/{number}",
        0,
        source,
        f"{source} {number}?",
        ["x"],
        "answered",
        QuestionRecord(),
        scores,
    )


def test_a_rows_mean_is_over_datasets_and_its_interval_holds_it() -> None:
    records = [record("one", i, float(i < 8), 1e-6) for i in range(10)]
    records += [record("two", i, float(i < 10), 3e-6) for i in range(40)]
    made = measured_row("x", "router", records)
    assert made.total.em == pytest.approx((0.8 + 0.25) / 2)
    assert made.total.dollars == pytest.approx(2e-6)
    assert (made.total.calls, made.by_source["two"].em) == (2.0, 0.25)
    assert made.total.em_low is not None
    assert made.total.em_high is not None
    assert made.total.em_low < made.total.em < made.total.em_high


def test_the_file_has_the_agreed_keys(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "comparison.json"
    write_comparison(path, toy_comparison())
    content = json.loads(path.read_text())
    means = {"em", "f1", "cost", "dollars", "calls", "latency_s", "latency_p95_s", "oracle_gap"}
    assert set(content) == {"title", "quality", "rows", "sweep"}
    for saved in content["rows"]:
        assert set(saved) == {"name", "kind", "em_low", "em_high", "by_source", *means}
        assert set(saved["by_source"]["toy"]) == means
    assert content["rows"][-1]["em_low"] is None
    assert content["sweep"][1] == {
        "cost_coe": 0.9,
        "em": 0.8,
        "cost": pytest.approx(20.0),
        "dollars": 2e-5,
        "calls": 1.0,
        "latency_s": None,
        "latency_p95_s": None,
        "oracle_gap": None,
        "cost_change": -3.0,
        "cost_change_low": -4.0,
        "cost_change_high": -2.0,
    }
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    read = read_comparison(path)
    assert read is not None
    assert read.rows == toy_comparison().rows
    assert [p.cost_change for p in read.sweep] == [p.cost_change for p in toy_comparison().sweep]
    write_comparison(path, read)
    assert json.loads(path.read_text()) == content


def test_a_sweeps_changes_are_paired_by_question() -> None:
    """Costs that differ much between questions and little between routers: a sure saving."""
    dear = [record("one", i, 1.0, i * 1e-6) for i in range(40)]
    saving = [record("one", i, 1.0, (i - 0.5) * 1e-6) for i in reversed(range(40))]
    first, second, third = sweep_points(
        [(0.6, saving), (0.3, dear), (0.9, saving[:20] * 2 + saving)]
    )
    assert [first.cost_coe, second.cost_coe, third.cost_coe] == [0.3, 0.6, 0.9]
    assert first.cost_change is None
    assert second.cost_change is not None
    assert third.cost_change is not None
    change = second.total.cost - first.total.cost
    assert second.cost_change.mean == pytest.approx(change)
    assert second.cost_change.low == pytest.approx(second.cost_change.high) == pytest.approx(change)
    assert third.cost_change.mean == third.cost_change.low == third.cost_change.high == 0.0
    with pytest.raises(KeyError):
        sweep_points([(0.0, dear[:3]), (0.9, saving)])


def test_two_routers_of_one_cost_coe_are_both_shown() -> None:
    one, other = [record("one", 0, 1.0, 2e-6)], [record("one", 0, 1.0, 3e-6)]
    costs = [point.total.cost for point in sweep_points([(0.9, one), (0.9, other)])]
    assert costs == [pytest.approx(2.0), pytest.approx(3.0)]


def test_the_tables_show_every_row_for_all_and_for_each_dataset() -> None:
    console = Console(width=120, record=True, file=None, quiet=False)
    toy = toy_comparison()
    both = replace(toy, rows=list(toy.rows))
    for number in (0, 1):
        means = both.rows[number].total
        both.rows[number] = Row(f"both {number}", "single", means, {"toy": means, "other": means})
    with console.capture() as captured:
        for table in comparison_tables(both):
            console.print(table.on_terminal())
    text = captured.get()
    assert text.count("both 0") == 3
    assert text.count("trained") == 3, "and in the table of what it gains"
    assert "router at cost_coe 0.9" in text
    assert "0 to 0.9" in text
    assert "-4.000 to -2.000" in text


def test_expected_rows_agree_with_the_oracle(world: World, embedded_pool: PoolConfig) -> None:
    questions = world.knowledge.questions("test")
    one_hop = [q for q in questions if len(q.hops) == 1]
    rows = {r.name: r for r in expected_rows(world, embedded_pool, questions)}
    oracle = Oracle(world, embedded_pool.prices(), one_hop)
    cell = rows["oracle (expected)"].by_source["world_onehop"]
    assert cell.em == pytest.approx(oracle.oracle().em)
    assert cell.cost == pytest.approx(oracle.oracle().cost)
    # "the director of Bo Ra": five words, at the prompt price of the domain's best LLM.
    prompt_price = {llm.name: llm.prompt_price for llm in embedded_pool.offered}
    prompts = [5 * prompt_price[oracle.best_route(q.domains, 0.0)[0]] for q in one_hop]
    assert cell.dollars == pytest.approx((cell.cost + sum(prompts) / len(prompts)) / 1e6)
    random = rows["random (per hop, expected)"].by_source["world_onehop"]
    prices = [llm.prompt_price for llm in embedded_pool.offered]
    assert random.em == pytest.approx(oracle.random_routing().em)
    assert random.dollars == pytest.approx((random.cost + 5 * sum(prices) / len(prices)) / 1e6)
    capped = rows["single-shot oracle (expected)"]
    best = [max(llm.reliability[q.domains[0]] for llm in world.llms.values()) for q in one_hop]
    assert capped.by_source["world_onehop"].em == pytest.approx(sum(best) / len(best))
    assert capped.by_source["world_twohop"].em == pytest.approx(0.25)
    assert capped.total.em < rows["oracle (expected)"].total.em


def test_questions_of_a_file_are_those_of_the_world(
    world: World, embedded_pool: PoolConfig, tmp_path: Path
) -> None:
    paths = write_world(world, embedded_pool, tmp_path)
    assert read_questions([str(paths["test"])]) == world_questions(world.knowledge, "test")


@dataclass(frozen=True)
class Told(QuestionRecord):
    """What another agent tells of its calls."""

    calls: list[dict[str, float]]


ROUTE = routed(["<search>", "<search>", "<answer>"], [call(latency_s=0.5), call(latency_s=2)])
AT_ONCE = [{"turn": turn, "latency_s": seconds} for turn, seconds in ((0, 1.0), (0, 3.0), (1, 2.0))]


@pytest.mark.parametrize(
    ("told", "waited"),
    [
        (ROUTE, {"latency_s": 2.5}),
        (Told(AT_ONCE), {"latency_s": 5.0}),
        (Told([{"latency_s": 1.0}]), {}),
    ],
)
def test_a_saved_router_waited_for_the_slowest_call_of_each_turn(
    world: World, tmp_path: Path, told: QuestionRecord, waited: dict[str, float]
) -> None:
    asked = world_questions(world.knowledge, "test")[0]
    saved = EvaluationRecord(
        asked.uid,
        0,
        asked.prompt.data_source,
        asked.prompt.text,
        asked.golden_answers,
        "answered",
        told,
        {"em": 1.0},
    )
    write_parquet(tmp_path / "questions.parquet", [saved])
    (read,) = read_saved(tmp_path, [asked])
    assert read.scores == {"em": 1.0, **waited}


def test_a_question_is_found_in_the_prompt(tmp_path: Path) -> None:
    def write(content: str) -> list[str]:
        frame = pd.DataFrame(
            [
                {
                    "data_source": "nq",
                    "prompt": [{"role": "user", "content": content}],
                    "reward_model": {"style": "rule", "ground_truth": {"target": ["a", "b"]}},
                    "extra_info": {"split": "test", "index": 0},
                }
            ]
        )
        frame.to_parquet(tmp_path / "rows.parquet")
        return [str(tmp_path / "rows.parquet")]

    (question,) = read_questions(write("Question: no\n\nQuestion: who sang it?"))
    assert (question.prompt.text, question.golden_answers) == ("who sang it?", ["a", "b"])
    with pytest.raises(DataError, match="row 0"):
        read_questions(write("who sang it?"))


def test_a_sample_keeps_the_order_and_follows_the_seed() -> None:
    chosen = sample(range(100), 10, seed=1)
    assert chosen == sorted(set(chosen)) == sample(range(100), 10, seed=1)
    assert chosen != sample(range(100), 10, seed=2)
    assert sample([3, 1], 5, seed=0) == [3, 1]


def test_a_saved_evaluation_must_cover_the_questions(world: World, tmp_path: Path) -> None:
    questions = world_questions(world.knowledge, "test")[:6]
    saved = [
        EvaluationRecord(
            f"other/{i}",
            0,
            q.prompt.data_source,
            q.prompt.text,
            ["x"],
            "answered",
            QuestionRecord(),
            {"em": 1.0},
        )
        for i, q in enumerate(questions)
    ]
    write_parquet(tmp_path / "questions.parquet", saved)
    assert read_saved(tmp_path, questions[:4]) == saved[:4]
    write_parquet(tmp_path / "questions.parquet", saved[:5])
    with pytest.raises(RecordError, match="lacks 1 of the 6 questions"):
        read_saved(tmp_path, questions)
    with pytest.raises(RecordError, match="no such file"):
        read_saved(tmp_path / "nowhere", questions)


def test_answers_are_normalised_alike_in_all_rows_of_a_comparison(
    world: World, tmp_path: Path
) -> None:
    question = world_questions(world.knowledge, "test")[0]
    asked = replace(question, golden_answers=["O'Brien"])
    given = Answer("O\u2019Brien", [])
    assert [to_record(asked, given, n).scores["em"] for n in NORMALIZATIONS] == [0.0, 1.0]
    saved = to_record(question, given)
    write_parquet(tmp_path / "questions.parquet", [saved])
    saved = replace(saved, trajectory=QuestionRecord())  # a comparison reads scores only
    assert read_saved(tmp_path, [question], "paper") == [saved]
    with pytest.raises(RecordError, match=r"scored with reward\.normalization=paper"):
        read_saved(tmp_path, [question], "unicode")
    (tmp_path / "results.json").write_text('{"normalization": "unicode"}')
    assert read_saved(tmp_path, [question], "unicode") == [saved]


def test_the_pool_is_that_of_the_first_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, results in (("a", None), ("b", {"pool": "embedded_tiers"}), ("c", {"pool": "x"})):
        (tmp_path / folder).mkdir()
        if results is not None:
            (tmp_path / folder / "results.json").write_text(json.dumps(results))
    swept = ["--sweep", "0=a", "--sweep", "0.3=b", "--sweep", "0.6=c"]
    assert parse_arguments(swept).pool == "embedded_tiers"
    assert parse_arguments(["--router", "it=c", *swept]).pool == "x"
    assert parse_arguments(["--router", "it=a"]).pool == "embedded"
    assert parse_arguments([*swept, "--pool", "embedded"]).pool == "embedded"


def test_the_default_router_is_left_out_beside_routers_of_another_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    default = Path("outputs/quickstart/eval")
    write_parquet(default / "questions.parquet", [record("one", 0, 1.0, 0.0)])
    (default / "results.json").write_text('{"pool": "first"}')
    (tmp_path / "swept").mkdir()
    for pool, routers in (("first", 1), ("second", 0)):
        (tmp_path / "swept" / "results.json").write_text(json.dumps({"pool": pool}))
        args = parse_arguments(["--sweep", "0.3=swept"])
        assert (args.pool, len(args.router)) == (pool, routers)
    assert parse_arguments([]).pool == "first"


def test_the_untrained_policy_is_told_by_its_name() -> None:
    assert [kind_of(n) for n in ("Prompt-only", "untrained", "seed 1")] == [
        "prompt",
        "prompt",
        "router",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test_files", "a.parquet"], "both --train_files and --test_files"),
        (["--world", "--train_files", "a", "--test_files", "b"], "exclude each other"),
        (["--train_files", "a", "--test_files", "b"], "--pool"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_arguments(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--router", "no-folder"],
        ["--sweep", "much=folder"],
        ["--carrot_lambda=-1"],
        ["--train_questions", "0"],
        ["--nonsense"],
    ],
)
def test_malformed_options_end_the_command(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse_arguments(arguments)
    assert error.value.code == 2


def test_options_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = parse_arguments(["--sweep", "0.9=b", "--baselines", "knn, mlp"])
    assert (args.pool, args.router, args.baselines) == ("embedded", [], ["knn", "mlp"])
    assert math.isclose(float(args.sweep[0].label), 0.9)
    write_parquet(Path("outputs/quickstart/eval/questions.parquet"), [record("one", 0, 1.0, 0.0)])
    (saved,) = parse_arguments([]).router
    assert (saved.label, str(saved.folder)) == ("trained", "outputs/quickstart/eval")
