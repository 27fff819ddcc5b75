"""``infer_vllm.py`` and ``python -m router_r1.serve`` as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai

from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from tests.integration.commands import ROOT, start

PLANTED = "sk-planted-in-the-environment"


def infer(
    *arguments: str, stdin: str | None = None, folder: Path = ROOT, **environment: str
) -> Any:
    return subprocess.run(
        [sys.executable, str(ROOT / "infer_vllm.py"), "--engine", "hf", *arguments],
        cwd=folder,
        env={**os.environ, "ROUTER_R1_API_KEY": PLANTED, **environment},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_json_on_two_questions(
    cold_start_folder: Path, world: World, served_pool: PoolConfig, tmp_path: Path
) -> None:
    questions = [question.text for question in world.knowledge.questions("test")[:2]]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": q}) + "\n" for q in questions))
    key = "sk-planted-on-the-command-line"
    result = infer(
        *("--json", "--questions_file", str(file), "--model_path", str(cold_start_folder)),
        *("--api_base", str(served_pool.api_base), "--api_key", key),
    )
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["question"] for answer in answers] == questions
    for answer in answers:
        assert answer["status"] == "answered"
        assert answer["trajectory"].endswith("</answer>")
        assert answer["cost"] == sum(call["cost"] for call in answer["calls"]) > 0
        assert {"llm", "latency_s", "completion_tokens", "dollars"} <= set(answer["calls"][0])
    for secret in (key, PLANTED):
        assert secret not in result.stdout + result.stderr


def test_with_no_arguments_it_shows_an_example(cold_start_folder: Path, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    shutil.copytree(cold_start_folder, tmp_path / ".cache" / "cold_start")
    result = infer(folder=tmp_path)
    assert result.returncode == 0, result.stderr
    labels = [line[:8].strip() for line in result.stdout.splitlines()]
    assert labels[0] == "question"
    assert {"think", "search", "call", "reply", "total"} <= set(labels)
    assert "\x1b" not in result.stdout
    assert "an example" in result.stderr
    assert PLANTED not in result.stdout + result.stderr


def test_a_mistake_is_one_line_on_stderr() -> None:
    result = infer("--model_path", "/nowhere/at/all", "--question", "x", "--pool", "embedded")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "neither a checkpoint folder nor a model" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_server_starts_answers_and_ends_on_sigterm(
    cold_start_folder: Path, world: World, served_pool: PoolConfig
) -> None:
    command = start(
        *(sys.executable, "-m", "router_r1.serve", "--engine", "hf", "--port", "0"),
        *("--model_path", str(cold_start_folder), "--api_base", str(served_pool.api_base)),
        ROUTER_R1_SERVE_KEY="sk-planted-for-clients",
        ROUTER_R1_API_KEY=PLANTED,
    )
    url = command.wait_for(r"serving router-r1 on (http://\S+)").group(1)
    question = world.knowledge.questions("test")[0].text
    with openai.OpenAI(base_url=url, api_key="sk-planted-for-clients") as client:
        completion = client.chat.completions.create(
            model="router-r1", messages=[{"role": "user", "content": question}]
        )
    assert completion.choices[0].message.content
    command.interrupt(group=False)
    assert command.finish() == 0, command.output
    assert command.survivors() == []
    assert "stopped" in command.output
    for secret in ("sk-planted-for-clients", PLANTED):
        assert secret not in command.output
