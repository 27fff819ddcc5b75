"""An engine's process that dies or hangs is replaced, and what was asked of it is asked again.

A real process plays the engine, which starts in a second where vLLM takes ten.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from verl.interfaces import GenerationOutput, SamplingParams
from verl.workers.rollout.errors import EngineDeadError, RolloutEngineError
from verl.workers.rollout.replica import Replica, RestartLimit

pytestmark = pytest.mark.usefixtures("ray_session")
START_TIMEOUT_S = 60.0
Make = Callable[..., Replica]


@ray.remote(num_cpus=0)
class Echo:
    """Continues a prompt with itself; a prompt of one token 0 misbehaves, once for each file."""

    def __init__(self, once: Path, how: str) -> None:
        self._once, self._how = once, how

        self._held = False

    async def ready(self) -> bool:
        return True

    async def hold(self) -> None:
        self._held = True

    async def held(self) -> bool:
        return self._held

    async def generate(self, prompt_ids: list[int], sampling: SamplingParams) -> GenerationOutput:
        await asyncio.sleep(0.05 * sampling.max_tokens)
        if prompt_ids == [0]:
            if self._how == "refuse":
                raise ValueError("too long")
            if not self._once.exists():
                if self._how != "die always":
                    self._once.touch()
                os.kill(os.getpid(), signal.SIGSTOP if self._how == "hang" else signal.SIGKILL)
        return GenerationOutput(tuple(prompt_ids), (0.0,) * len(prompt_ids), "stop")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    replicas: list[Replica] = []

    def make_replica(how: str, replace: Any, limit_s: float | None = None) -> Replica:
        start = lambda: Echo.remote(tmp_path / "once", how)  # type: ignore[attr-defined]  # noqa: E731
        replicas.append(Replica("replica 0 (here)", start, replace, limit_s))
        ray.get(replicas[-1].actor.ready.remote())
        return replicas[-1]

    yield make_replica
    for replica in replicas:
        replica.close()


def ask(replica: Replica, count: int = 8) -> list[tuple[int, ...]]:
    async def run() -> list[GenerationOutput]:
        calls = (replica.generate([i], SamplingParams(max_tokens=1)) for i in range(count))
        return await asyncio.gather(*calls)

    return [output.token_ids for output in asyncio.run(run())]


def restart(
    replica: Replica,
    lost: Any,
    reason: str,
    limit: RestartLimit | None = None,
    holds: bool = False,
) -> bool:
    return replica.restart(lost, reason, limit or RestartLimit(10), START_TIMEOUT_S, holds)


@pytest.mark.parametrize(
    ("how", "words"), [("die", "its process has died"), ("hang", "no generation has ended for 4 s")]
)
def test_a_lost_process_is_replaced_once_and_every_generation_comes(
    make: Make, how: str, words: str
) -> None:
    reasons: list[str] = []

    def replace(replica: Replica, lost: Any, reason: str) -> None:
        reasons.append(reason)
        restart(replica, lost, reason)

    replica = make(how, replace, 4.0 if how == "hang" else None)
    first = replica.actor
    assert ask(replica) == [(i,) for i in range(8)]
    assert replica.actor is not first
    assert reasons == [words], "eight generations were on it"
    assert replica.find_fault() is None


def test_no_generation_reaches_a_new_process_before_it_is_ready_for_it(make: Make) -> None:
    """Weights come after the start; who asks meanwhile waits."""
    refreshed = False

    def replace(replica: Replica, lost: Any, reason: str) -> None:
        nonlocal refreshed
        restart(replica, lost, reason)
        refreshed = True

    replica = make("die", replace)

    async def run() -> bool:
        lost = asyncio.create_task(replica.generate([0], SamplingParams(max_tokens=1)))
        first = replica.actor
        while replica.actor is first:
            await asyncio.sleep(0.01)
        await replica.generate([1], SamplingParams(max_tokens=1))
        known = refreshed
        await lost
        return known

    assert asyncio.run(run())


def test_a_refused_request_is_no_reason_to_restart(make: Make) -> None:
    def replace(_replica: Replica, _lost: Any, reason: str) -> None:
        raise AssertionError(reason)

    replica = make("refuse", replace)
    with pytest.raises(RolloutEngineError, match=r"(?s)replica 0 \(here\) failed: .*too long"):
        ask(replica, count=1)
    assert replica.find_fault() is None


def restarting(limit: RestartLimit) -> Callable[[Replica, Any, str], None]:
    """Starts a lost process again while the limit lets it."""

    def replace(replica: Replica, lost: Any, reason: str) -> None:
        restart(replica, lost, reason, limit)

    return replace


def test_an_engine_that_is_lost_again_and_again_is_given_up(make: Make) -> None:
    limit = RestartLimit(2)
    replica = make("die always", restarting(limit))
    with pytest.raises(EngineDeadError, match=r"replica 0 \(here\) is lost: .*max_restarts=2"):
        ask(replica, count=1)
    assert limit.taken == 2


def test_engines_that_die_before_they_generate_are_given_up_early(make: Make) -> None:
    limit = RestartLimit(10)
    replica = make("die always", restarting(limit))
    with pytest.raises(EngineDeadError, match="3 processes in a row were lost before"):
        ask(replica, count=1)
    assert limit.taken == 2


def test_a_closed_replica_stays_closed(make: Make) -> None:
    replica = make("die", lambda *_: None)
    replica.close()
    with pytest.raises(RolloutEngineError, match="was shut down"):
        restart(replica, replica.actor, "it is closed")
    assert replica.find_fault() == "it was shut down"


def test_a_loss_that_two_have_noticed_is_one_restart(make: Make) -> None:
    limit = RestartLimit(10)
    replica = make("die", lambda *_: None)
    lost = replica.actor
    assert restart(replica, lost, "one says so", limit)
    second = replica.actor
    assert not restart(replica, lost, "so does another", limit)
    assert (replica.actor, limit.taken) == (second, 1)


@pytest.mark.parametrize("holds", [True, False])
def test_a_process_that_waits_for_weights_is_held_before_anybody_asks_it(
    make: Make, holds: bool
) -> None:
    replica = make("die", lambda *_: None)
    restart(replica, replica.actor, "it is old", holds=holds)
    assert ray.get(replica.actor.held.remote()) is holds
