"""A run that was killed, went on in odd surroundings and lost a rank, against the one that was
not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tests.integration.commands import ROOT, SMALL, Command, metrics_of, start
from verl.utils.checkpoints import list_checkpoints

pytestmark = pytest.mark.engine
STRANGER = (
    *("unshare", "--mount", "bash", "-c"),
    'mount --bind "$PWD" "$PWD" && mount -o remount,bind,ro "$PWD" && cd "$PWD" && '
    'exec unshare --user --map-user=43210 "$@"',
    "bash",
)


def _as_a_stranger() -> tuple[str, ...]:
    """Runs what follows under a uid without account, with a repository that cannot be written;
    nothing where namespaces cannot be made."""
    tried = subprocess.run(
        [*STRANGER, "touch", "must_not_appear"], cwd=ROOT, capture_output=True, text=True
    )
    return STRANGER if "Read-only file system" in tried.stderr else ()


def _odd_surroundings(folder: Path) -> dict[str, str]:
    """No home, an ASCII locale, a TMPDIR too long for sockets, a proxy that is none."""
    temporary = folder / ("t" * 80)
    temporary.mkdir()
    no_home = folder / "no_home"
    no_home.touch()  # a file cannot become a folder
    return {
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "LC_ALL": "C",
        "HOME": str(no_home),
        "TMPDIR": str(temporary),
        **dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), "http://127.0.0.1:9"),
    }


@pytest.fixture(scope="module")
def public_folder() -> Iterator[Path]:
    """One that any user may enter and write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def disturbed_run(
    small_run: tuple[Command, Path], cold_policy: Path, public_folder: Path
) -> tuple[Command, Path]:
    """The small run once more: SIGKILL as soon as its first step is saved, then the same command
    in odd surroundings, and of its two ranks one gets SIGKILL as soon as the second step is saved;
    finished."""
    _, straight = small_run
    shutil.copytree(straight / "world", public_folder / "world")
    shutil.copytree(cold_policy, public_folder / "cold")
    folder = public_folder / "run"
    again = (
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={folder}"),
        *(f"world.folder={public_folder}/world", f"cold_start.folder={public_folder}/cold"),
        *("trainer.total_training_steps=3", "trainer.save_freq=1"),
        *("trainer.max_ckpt_to_keep=null", "trainer.logger=[console,jsonl,wandb]"),
    )

    def saved(step: int, command: Command) -> None:
        while not (folder / f"checkpoints/global_step_{step}").is_dir():
            assert command.process.poll() is None, command.output
            time.sleep(0.05)

    killed = start(*again, RECIPE="quickstart")
    killed.wait_for(r"step 1/3")
    saved(1, killed)
    os.kill(killed.process.pid, 9)
    killed.finish()
    assert [c.step for c in list_checkpoints(folder)] == [1]
    for path in public_folder.rglob("*"):
        path.chmod(0o777)
    odd = _odd_surroundings(public_folder)
    command = start(*_as_a_stranger(), *again, RECIPE="quickstart", **odd)
    command.wait_for(r"TMPDIR is too long")
    command.wait_for("goes on after step 1")
    saved(2, command)
    (rank, *_) = [
        process
        for process in psutil.Process(command.process.pid).children(recursive=True)
        if "ray::_Process" in " ".join(process.cmdline())
    ]
    rank.kill()
    assert command.finish() == 0, command.output
    assert command.survivors() == []
    return command, folder


def test_a_run_that_is_killed_and_loses_a_rank_is_the_run_that_was_not(
    small_run: tuple[Command, Path], disturbed_run: tuple[Command, Path]
) -> None:
    _, straight = small_run
    command, folder = disturbed_run
    assert "validation after 0 steps" not in command.output
    for role in ("actor", "critic"):
        weights = f"checkpoints/global_step_3/{role}/model.safetensors"
        expected = load_file(straight / weights)
        found = load_file(folder / weights)
        assert all(found[name].equal(expected[name]) for name in expected), role
    # Seconds; money; the engine's rounding; what was done about the losses.
    other = ("timing", "pool/", "rollout/log_prob_gap", "trainer/restarts")
    for one, two in zip(metrics_of(straight), metrics_of(folder), strict=True):
        kept = [name for name in one if not name.startswith(other)]
        assert {name: two.get(name) for name in kept} == {name: one[name] for name in kept}
    untrained = [
        json.loads((f / "summary.json").read_text())["untrained"] for f in (straight, folder)
    ]
    assert untrained[0] == untrained[1]


def test_a_rank_that_dies_costs_the_steps_since_the_last_checkpoint(
    disturbed_run: tuple[Command, Path],
) -> None:
    command, folder = disturbed_run
    said = " ".join(command.output.split())
    assert re.search(r"rank \d of 2 (died|failed) .*the run goes on after step 2", said), said
    assert "Traceback" not in command.output
    steps = [line for line in metrics_of(folder) if "critic/score/mean" in line]
    assert [line["step"] for line in steps] == [1, 2, 3], "no step is missing and none is twice"
    assert [line["trainer/restarts"] for line in steps] == [0, 0, 1]
    spent = [line["pool/spent_usd"] for line in steps]
    assert 0 < spent[0] < spent[1] < spent[2]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {
        f"global_step_{step}" for step in (1, 2, 3)
    }


def test_wandb_takes_a_run_that_goes_on_for_the_same_run(
    disturbed_run: tuple[Command, Path],
) -> None:
    _, folder = disturbed_run
    runs = [path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*")]
    assert len(runs) == 3, "the killed process's, and one before and after the rank was lost"
    assert len(set(runs)) == 1


def test_odd_surroundings_are_no_hindrance(
    disturbed_run: tuple[Command, Path], public_folder: Path
) -> None:
    _, folder = disturbed_run
    assert list((public_folder / ("t" * 80)).iterdir()) == []
    steps = [line for line in metrics_of(folder) if "critic/score/mean" in line]
    for line in steps:
        assert line["pool/failed_share"] == 0, "the proxy was not asked"
        assert line["reward/route_cnt"] > 0
