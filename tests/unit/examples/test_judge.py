"""The example's judge is asked over real HTTP, all answers of a batch at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from examples.judge.judge import JudgeLLM
from router_r1.pool.hosted.server import SimulatedPoolServer, SimulatedReply, listening
from router_r1.reward.outcome_function import judge
from tests.routed import routed
from verl.config.validation import ConfigError

ANSWERS = ["the Eiffel tower", "Lyon", "Eiffel Tower"]
POOL = {
    "name": "judges",
    "api_key_env": "",
    "max_retries": 0,
    "request_timeout_s": 5.0,
    "llms": [
        {"name": name, "model": name.lower(), "completion_price": 1.0, "max_tokens": 8}
        for name in ("Strict", "Mute")
    ],
}


class Referee:
    """Plays the judges: accepts what holds an accepted answer; counts the calls under way."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def reply(self, llm: str, query: str) -> SimulatedReply:
        self.asked.append(query)
        accepted, answer = (line.partition(": ")[2].lower() for line in query.splitlines())
        text = "Yes." if any(gold in answer for gold in accepted.split(" | ")) else "No."
        return SimulatedReply("" if llm == "Mute" else text, 1, 1, latency_s=0.2)


@contextmanager
def served(referee: Referee) -> Iterator[str]:
    """The simulated pool's server, in a thread."""
    models = {llm["model"]: llm["name"] for llm in POOL["llms"]}
    server = SimulatedPoolServer(referee.reply, models, time_scale=1.0)
    ready, stop = threading.Event(), asyncio.Event()
    urls: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with listening(server.application()) as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def pool_file(tmp_path: Path) -> str:
    path = tmp_path / "judges.yaml"
    OmegaConf.save(OmegaConf.create(POOL), path)
    return str(path)


def test_a_judge_gives_the_outcomes_of_a_batch(pool_file: str) -> None:
    referee = Referee()
    given = [routed([f"<think>a</think><answer>{answer}</answer>"]) for answer in ANSWERS]
    given.append(routed(["<think>nothing</think>"]))
    golds = [["Eiffel Tower", "Tour Eiffel"]] * 4
    with served(referee) as url:
        strict = JudgeLLM(pool_file, "Strict", api_base=url)
        for _ in range(2):  # one batch after the other
            assert judge(strict, given, golds).outcomes == [1.0, 0.0, 1.0, 0.0]
        assert judge(JudgeLLM(pool_file, "Mute", url), given[:1], golds[:1]).outcomes == [0.0]
    assert len(referee.asked) == 7, "a trajectory without an answer is not judged"
    assert referee.asked[0].startswith("Accepted answers: Eiffel Tower | Tour Eiffel\n")


def test_a_judge_that_the_pool_does_not_have_is_refused(pool_file: str) -> None:
    with pytest.raises(ConfigError, match=r"llm='Nobody'.*Strict, Mute"):
        JudgeLLM(pool_file, "Nobody")
