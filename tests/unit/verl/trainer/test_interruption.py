"""Signals end a run in good order: noted at once, obeyed where the run can stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trainer.interruption import SIGNALS, Interruption, StopRequestedError
from verl.trainer.ppo.prompts import InterruptibleSource
from verl.trajectory import Trajectory


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_step_to_end(number: signal.Signals) -> None:
    interruption = Interruption()
    before = signal.getsignal(number)
    with interruption.watching():
        interruption.check()
        send(number)
        with pytest.raises(StopRequestedError, match=number.name):
            interruption.check()
    assert signal.getsignal(number) is before


def test_a_rollout_is_abandoned_at_once() -> None:
    interruption = Interruption()

    class Slow:
        def rollout(
            self,
            requests: Sequence[RolloutRequest],  # noqa: ARG002
            options: RolloutOptions,  # noqa: ARG002
            on_finished: Callable[[Trajectory], None] | None = None,  # noqa: ARG002
        ) -> list[Trajectory]:
            time.sleep(30)
            return []

    source = InterruptibleSource(Slow(), interruption)
    timer = threading.Timer(0.05, send, [signal.SIGUSR1])
    with interruption.watching():
        start = time.monotonic()
        timer.start()
        with pytest.raises(StopRequestedError, match="SIGUSR1"):
            source.rollout([], RolloutOptions())
        with pytest.raises(StopRequestedError):  # and no further one begins
            source.rollout([], RolloutOptions())
    assert time.monotonic() - start < 10


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not() -> None:
    interruption = Interruption()
    with interruption.watching():
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
