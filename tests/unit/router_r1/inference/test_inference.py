"""infer_vllm.py without an engine: which model and settings, questions, what is shown."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console

from router_r1.inference.arguments import RouterArguments, add_router_arguments
from router_r1.inference.command import _requests
from router_r1.inference.questions import read_questions
from router_r1.inference.record import answer_record
from router_r1.inference.router import QuestionTooLongError, Router, warn_without_key
from router_r1.inference.settings import default_model, resolve
from router_r1.inference.terminal import ResultConsole, TerminalView, dollars, seconds
from router_r1.llm_agent.generation import LLMGenerationManager
from router_r1.llm_agent.parsing import parse_action
from router_r1.llm_agent.question import as_question
from router_r1.llm_agent.trajectory import Call, RoutedTrajectory, Turn
from router_r1.pool.loading import load_pool
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.tags import Tags
from tests.templates import THINKING_TEMPLATE, MakeTokenizer
from verl.config.validation import ConfigError
from verl.errors import UserError
from verl.interfaces import RolloutRequest
from verl.trainer.launch import load_task_config
from verl.trajectory import Segment, SegmentKind, Trajectory, TrajectoryStatus


def checkpoint(root: Path, run: str, step: int, model_type: str = "qwen2") -> Path:
    folder = root / "outputs" / run / "checkpoints" / f"global_step_{step}" / "actor"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def test_the_default_model_is_the_newest_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"bash train\.sh"):
        default_model(tmp_path)
    cold = tmp_path / ".cache" / "cold_start"
    cold.mkdir(parents=True)
    (cold / "cold_start.json").touch()
    assert default_model(tmp_path) == str(cold)
    checkpoint(tmp_path, "quickstart", 9)
    newest = checkpoint(tmp_path, "quickstart", 40)
    (checkpoint(tmp_path, "quickstart", 80) / "config.json").unlink()  # cut off while saving
    assert default_model(tmp_path) == str(newest)
    later = checkpoint(tmp_path, "another", 5)
    for age_s, actor in ((100, newest), (50, later)):
        saved = time.time() - age_s
        os.utime(actor / "config.json", (saved, saved))
    assert default_model(tmp_path) == str(later)
    os.utime(newest / "config.json")
    assert default_model(tmp_path) == str(newest)


def test_the_folder_we_are_in_comes_before_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, repository = tmp_path / "here", tmp_path / "repository"
    here.mkdir()
    theirs = checkpoint(repository, "quickstart", 40)
    assert default_model(here, repository) == str(theirs)
    ours = checkpoint(here, "quickstart", 1)
    monkeypatch.chdir(here)
    assert default_model(here, repository) == resolve(RouterArguments()).model_path == str(ours)


def test_the_cold_start_gets_the_quickstarts_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cold = tmp_path / ".cache" / "cold_start"
    cold.mkdir(parents=True)
    (cold / "cold_start.json").write_text("{}")
    settings = resolve(RouterArguments())
    assert settings.model_path == str(cold)
    assert (settings.pool.name, settings.prompt_style) == ("embedded", "compact")
    assert (settings.limits.max_turns, settings.limits.max_prompt_length) == (3, 512)
    assert (settings.rollout.dtype, settings.device) == ("float32", "cpu")
    assert settings.options.temperature == 0.0
    assert settings.pool.needs_server
    elsewhere = resolve(RouterArguments(api_base="http://x/v1"))
    assert elsewhere.pool.api_base == "http://x/v1"
    assert not elsewhere.pool.needs_server


def test_a_cold_start_brings_the_pool_that_it_was_made_for(tmp_path: Path) -> None:
    (tmp_path / "cold_start.json").write_text('{"pool_name": "embedded_tiers"}')
    settings = resolve(RouterArguments(model_path=str(tmp_path)))
    assert settings.pool.name == "embedded_tiers"
    assert settings.prompt_style == "compact"
    assert settings.pool.needs_server
    other = resolve(RouterArguments(model_path=str(tmp_path), pool="embedded"))
    assert other.pool.name == "embedded"


def test_a_router_that_is_told_what_cost_counts_may_be_told_any(tmp_path: Path) -> None:
    (tmp_path / "cold_start.json").write_text(
        '{"pool_name": "embedded_tiers", "state_cost_coe": true}'
    )
    model_path = str(tmp_path)
    assert resolve(RouterArguments(model_path=model_path)).cost_coe == 0.0
    assert resolve(RouterArguments(model_path=model_path, cost_coe=0.45)).cost_coe == 0.45
    with pytest.raises(ConfigError, match=r"--cost_coe must be in \[0, 1\], got 2"):
        RouterArguments(cost_coe=2)


def test_who_was_held_out_of_training_is_not_offered(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "mine", 5)
    _, config = load_task_config(["recipe=quickstart_pools"])
    dump = tmp_path / "outputs" / "mine" / "config.yaml"
    dump.write_text(yaml.safe_dump(asdict(config)))
    offered = [llm.name for llm in resolve(RouterArguments(model_path=str(folder))).pool.offered]
    assert offered == ["Orion", "Pavo", "Taurus", "Vela"]
    given = RouterArguments(model_path=str(folder), pool="embedded_profiles")
    assert len(resolve(given).pool.offered) == 6


def test_a_pool_that_is_named_keeps_what_the_cold_start_was_told(tmp_path: Path) -> None:
    (tmp_path / "cold_start.json").write_text('{"state_cost_coe": true}')
    given = RouterArguments(model_path=str(tmp_path), pool="embedded_tiers", cost_coe=0.5)
    assert resolve(given).cost_coe == 0.5


def test_a_router_of_one_weight_of_cost_takes_no_other(tmp_path: Path) -> None:
    (tmp_path / "cold_start.json").write_text('{"pool_name": "embedded_tiers"}')
    assert resolve(RouterArguments(model_path=str(tmp_path))).cost_coe is None
    with pytest.raises(ConfigError, match=r"--cost_coe=0.5 .*was trained for cost_coe=0.0 alone"):
        resolve(RouterArguments(model_path=str(tmp_path), cost_coe=0.5))


@pytest.mark.parametrize(
    ("model", "style"), [("Qwen/Qwen2.5-3B-Instruct", "qwen"), ("org/Llama-3.2-3B", "llama")]
)
def test_any_other_model_gets_the_papers_settings(model: str, style: str) -> None:
    settings = resolve(RouterArguments(model_path=model, max_turns=2))
    assert (settings.pool.name, settings.prompt_style) == ("paper", style)
    assert (settings.limits.max_turns, settings.limits.max_response_length) == (2, 1024)
    assert settings.max_start_length == 2048
    assert not settings.pool.needs_server


def test_a_checkpoint_brings_the_settings_of_its_run(tmp_path: Path) -> None:
    trained = resolve(RouterArguments(model_path="x", pool="embedded"))
    folder = checkpoint(tmp_path, "mine", 5, model_type="llama")
    pool = {
        "name": "mine",
        "api_base": "http://pool/v1",
        "llms": [{"name": "A", "model": "a", "completion_price": 1.0}],
    }
    dump = {
        "task": {"_target_": "router_r1.task.RoutingTask"},
        "data": {"train_files": ["a"], "val_files": ["b"], "max_prompt_length": 999,
                 "max_start_length": 500,
                 "apply_chat_template_kwargs": {"enable_thinking": False}},
        "actor_rollout_ref": {
            "model": {"path": "x"}, "rollout": {"tensor_model_parallel_size": 2}
        },
        "critic": {"model": {"path": "x"}},
        "trainer": {"n_gpus_per_node": 2},
        "max_turns": 2,
        "prompt_style": "llama",
        "route_tag": "route",
        "pool": pool,
        "api_key": "***",
        "world": {"seed": 11},
    }  # fmt: skip
    (tmp_path / "outputs" / "mine" / "config.yaml").write_text(yaml.safe_dump(dump))
    settings = resolve(RouterArguments(model_path=str(folder)))
    assert (settings.pool.name, settings.prompt_style) == ("mine", "llama")
    assert settings.tags == Tags("route")
    assert (settings.limits.max_turns, settings.limits.max_prompt_length) == (2, 999)
    assert (settings.api_key, settings.world.seed) == (None, 11)
    assert settings.template_options == {"enable_thinking": False}
    on_cpu = resolve(RouterArguments(model_path=str(folder), device="cpu"))
    assert on_cpu.rollout.tensor_model_parallel_size == 1, "one rank, whatever it was trained with"
    renamed = resolve(RouterArguments(model_path=str(folder), route_tag="search"))
    assert renamed.tags == Tags("search")
    given = resolve(RouterArguments(model_path=str(folder), pool="embedded", max_turns=7))
    assert given.pool == trained.pool
    assert given.limits.max_turns == 7
    shutil.copytree(folder, tmp_path / "moved")
    assert resolve(RouterArguments(model_path=str(tmp_path / "moved"))).pool.name == "paper"


def test_template_options_of_the_command_line_shape_the_prompt(
    make_tokenizer: MakeTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_router_arguments(parser)
    given = parser.parse_args(
        ["--model_path=x", '--chat_template_options={"enable_thinking":false}']
    )
    settings = resolve(RouterArguments.from_namespace(given))
    tokenizer = make_tokenizer(THINKING_TEMPLATE)
    off = Router(settings, cast(LLMGenerationManager, None), tokenizer)
    on = Router(replace(settings, template_options={}), off._manager, tokenizer)
    lengths = {}
    for router in (on, off):
        messages = router.request("who?").messages
        lengths[router] = len(router._chat.render(messages).token_ids)
        router.settings = replace(router.settings, max_start_length=lengths[router] - 1)
        with pytest.raises(QuestionTooLongError, match=f"{lengths[router]} tokens"):
            router.request("who?")
    assert lengths[off] > lengths[on]
    with pytest.raises(SystemExit):
        parser.parse_args(["--chat_template_options=enable_thinking"])
    assert "is not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pool": "nowhere"}, "no pool file"),
        ({"max_prompt_length": 100, "max_start_length": 100}, "--max_start_length"),
    ],
)
def test_contradictions_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(RouterArguments(model_path="x", **arguments))


@pytest.mark.parametrize("arguments", [{"temperature": -1.0}, {"top_p": 0.0}, {"max_turns": 0}])
def test_values_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        RouterArguments(**arguments)


def test_questions_come_from_text_jsonl_and_parquet(tmp_path: Path) -> None:
    text = tmp_path / "q.txt"
    text.write_text("Who?\n\n  What is { this? \n{not json\n")
    assert read_questions(str(text)) == ["Who?", "What is { this?", "{not json"]
    lines = tmp_path / "q.jsonl"
    lines.write_text('{"question": "Who?"}\n{"extra_info": {"question": "What?"}}\n"Bare?"\n')
    assert read_questions(str(lines)) == ["Who?", "What?", "Bare?"]
    frame = tmp_path / "q.parquet"
    rows = [{"prompt": "p", "extra_info": {"question": q, "index": i}} for i, q in enumerate("ab")]
    pd.DataFrame(rows).to_parquet(frame)
    assert read_questions(str(frame)) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "no such file"),
        ("empty.txt", "\n\n", "no question"),
        ("bad.jsonl", '{"question": "a"}\n{', "line 2 is not JSON"),
        ("other.jsonl", '{"prompt": "a"}', "no field 'question'; it has: prompt"),
        ("list.jsonl", "[1]", "objects with a field"),
        ("broken.parquet", "x", "cannot be read"),
    ],
)
def test_bad_question_files_are_named(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        read_questions(str(tmp_path / name))


def test_half_a_character_is_refused_before_anything_is_asked() -> None:
    """As JSON and command lines can hold it."""
    with pytest.raises(UserError, match=r"question 2 is no Unicode text: 'Who \\ud83d'"):
        _requests(cast(Router, Accepting()), ["Who?", "Who \ud83d"])


class Accepting:
    def request(self, question: str) -> RolloutRequest:
        return RolloutRequest(question, [])


def test_missing_keys_are_named_where_there_is_a_variable_for_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    warn_without_key(load_pool("azure"), None)  # its keys are in headers of their own
    assert caplog.messages == []
    warn_without_key(load_pool("mistral"), None)
    assert caplog.messages == ["no key for pool mistral: $MISTRAL_API_KEY is not set"]


def test_questions_end_as_in_the_training_data() -> None:
    assert as_question(" who is x ") == "who is x?"
    assert as_question("who?\n") == "who?"
    assert as_question("Name it.") == "Name it."


def finished(
    status: TrajectoryStatus, text: str, made: Call | None = None
) -> Trajectory[RoutedTrajectory]:
    segments = [
        Segment(SegmentKind.PROMPT, (1, 2)),
        Segment(SegmentKind.ACTION, (3, 4, 5), (0.0, 0.0, 0.0)),
    ]
    return Trajectory("u", segments, status, RoutedTrajectory(status, (Turn(text, made),)))


OK = CallResult("Atlas", Outcome.OK, "yes", 5, 40, 40.0, 0.0000425, 0.034)


def show(ended: Trajectory[RoutedTrajectory], color: bool = False) -> str:
    out = io.StringIO()
    view = TerminalView(Console(file=out, highlight=False, force_terminal=color, width=40))
    view.show_question("Who is x?")
    turn = "<think> so\x1b[31m\nit is</think>\n<search> Atlas: x </search>"
    for character in turn:
        view.on_text(character)
    view.on_turn_end(parse_action(turn))
    view.on_result(OK)
    view.on_observation("\n\n<information>yes</information>\n\n")
    view.on_text("nothing")
    view.on_turn_end(parse_action("nothing"))
    view.on_result(replace(OK, outcome=Outcome.TIMEOUT, latency_s=5.0))
    view.on_end(ended)
    return out.getvalue()


def test_a_trajectory_reads_like_this() -> None:
    shown = show(finished(TrajectoryStatus.TURNS_EXHAUSTED, "", Call("x", OK)))
    assert shown.splitlines() == [
        "question Who is x?",
        "   think so\ufffd[31m",
        "         it is",
        "  search Atlas: x",
        "    call Atlas · 34 ms · 5 + 40 tokens · cost 40 · $0.000043",
        "   reply yes",
        "         nothing",
        "         neither a complete search nor an answer",
        "    call Atlas failed: timeout, 5.0 s",
        "         no answer: all turns are used up",
        "   total 1 turn · 1 call · 45 tokens · cost 40 · $0.000043",
    ]


def test_colours_only_on_a_terminal_and_no_control_sequence_of_the_model() -> None:
    ended = finished(TrajectoryStatus.TRUNCATED, "")
    assert "\x1b" not in show(ended)
    coloured = show(ended, color=True)
    assert "\x1b[1;36m  search " in coloured
    assert "so\x1b[31m" not in coloured


def test_amounts_are_readable() -> None:
    amounts = [dollars(x) for x in (0, 1.5e-5, 0.00123, 0.5, 12.34)]
    assert amounts == ["$0", "$0.000015", "$0.0012", "$0.50", "$12.34"]
    assert [seconds(x) for x in (0.0341, 1.26)] == ["34 ms", "1.3 s"]


def test_the_json_object_has_what_is_promised() -> None:
    text = "<think>a</think><answer> no</answer> <answer> yes </answer>"
    answer = answer_record("q", finished(TrajectoryStatus.ANSWERED, text, Call("x", OK)))
    assert set(answer) >= {"question", "answer", "calls", "cost", "dollars", "trajectory"}
    assert (answer["answer"], answer["cost"], answer["trajectory"]) == ("yes", 40.0, text)
    unfinished = answer_record("q", finished(TrajectoryStatus.TRUNCATED, text))
    assert unfinished["answer"] is None


def test_a_reader_that_goes_away_raises_and_does_not_end_the_process() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        ResultConsole(Closed()).print("x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that torch can use")
def test_a_router_trained_on_gpus_can_be_asked_without_one() -> None:
    settings = resolve(RouterArguments(model_path="Qwen/Qwen2.5-3B-Instruct"))
    assert settings.device == "cpu"
