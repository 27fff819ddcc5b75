"""Small training runs of two ranks whose calls are replayed, so that one that was disturbed can be
held against one that was not."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from tests.integration.commands import SMALL, Command, metrics_of, start

PATIENCE_S, END_S, RAYS_END_S = 300.0, 15.0, 120.0
# Agents that look for their raylet, which has ended, once a minute; and workers that had not yet
# reached it.
RAYS_OWN = re.compile(r"ray::(DashboardAgent|RuntimeEnvAgent)|.*default_worker\.py")
# What depends on the clock, on whether a call was replayed, on how the engine groups what it
# computes, and on what was lost.
UNEQUAL = (
    *("timing", "pool/spent_usd", "rollout/log_prob_gap"),
    *("rollout/engine_restarts", "trainer/restarts"),
)


def launch(folder: Path, calls: Path, *overrides: str, recipe: str = "quickstart") -> Command:
    """``bash train.sh`` into ``folder``; calls are taken from the file ``calls`` if it is there,
    else made and kept in it."""
    mode = "replay" if calls.is_file() else "record"
    return start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={folder}"),
        *(f"world.folder={calls.parent}/world", "trainer.val_before_train=false"),
        *(f"pool.recording.mode={mode}", f"pool.recording.path={calls}"),
        *("trainer.logger=[console,jsonl]", "trainer.save_freq=1", *overrides),
        RECIPE=recipe,
    )


def finish(command: Command) -> None:
    """To a good end, without a process left."""
    assert command.finish() == 0, command.output
    assert command.survivors() == []


def kill(command: Command) -> None:
    """SIGKILL to the driver; what it started ends with it, but for processes of Ray's own: see
    :func:`assert_all_ended`."""
    command.process.send_signal(signal.SIGKILL)
    command.finish()
    deadline = time.monotonic() + END_S

    def ours() -> list[str]:
        return [words for words in command.survivors(0.0) if not RAYS_OWN.match(words)]

    while (alive := ours()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive, alive


def assert_all_ended(command: Command) -> None:
    """Of a killed run nothing is left, Ray's own processes included."""
    alive = command.survivors(RAYS_END_S)
    assert not alive, alive


def wait_until(command: Command, condition: Callable[[], bool]) -> None:
    """The run must be under way until then."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if command.process.poll() is not None or time.monotonic() > deadline:
            command.process.kill()
            command.finish()
            raise AssertionError(command.output)
        time.sleep(0.02)


def wait_until_saved(command: Command, folder: Path, step: int) -> None:
    wait_until(command, (folder / f"checkpoints/global_step_{step}").is_dir)


def processes(command: Command, is_wanted: Callable[[str], bool]) -> list[psutil.Process]:
    """Of the run, by their command lines."""
    found = []
    for one in psutil.Process(command.process.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            if is_wanted(" ".join(one.cmdline())):
                found.append(one)
    return found


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def ranks_of(command: Command) -> list[psutil.Process]:
    return processes(command, lambda words: "ray::_Process" in words)


def engine_of(command: Command) -> psutil.Process:
    """The process in which the policy generates."""
    (engine,) = processes(command, lambda words: words.startswith("ray::") and "Replica" in words)
    return engine


def compared(line: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in line.items() if not name.startswith(UNEQUAL)}


def weights_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Of all trained models, by role and name."""
    checkpoint = folder / f"checkpoints/global_step_{step}"
    files = sorted(checkpoint.glob("*/model.safetensors"))
    assert checkpoint / "actor/model.safetensors" in files
    return {
        f"{file.parent.name}/{name}": weight
        for file in files
        for name, weight in load_file(file).items()
    }


def assert_same_run(one: Path, other: Path, step: int) -> None:
    """Bit-equal weights of all models, and equal metrics of each step."""
    expected, found = weights_of(one, step), weights_of(other, step)
    assert expected.keys() == found.keys()
    unequal = [name for name in expected if not expected[name].equal(found[name])]
    assert not unequal
    lines = [[compared(line) for line in metrics_of(folder)] for folder in (one, other)]
    assert lines[0] == lines[1]
