"""The folder that a training run writes into, and the names of what it writes there.

Guarantees: one run at a time writes into a folder; what an earlier run left there is set aside
whole before the new one writes anything, so that nothing reads the two as one. A run that goes on
from a checkpoint finds the folder as it was when that was saved.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from verl.errors import UserError
from verl.utils.checkpoints import Checkpoint, list_checkpoints, remove_partial_checkpoints
from verl.utils.files import write_text
from verl.utils.tracking import METRICS_FILE

logger = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.json"
PROFILE_FOLDER = "profile"
SAMPLES_FOLDER = "samples"
TASK_STATE_FILE = "task_state.json"
VALIDATION_FOLDER = "validation"
# What a run leaves; data files and recordings may lie beside it and stay.
_ARTIFACTS = (
    "checkpoints",
    "config.yaml",
    "curves.png",
    ENVIRONMENT_FILE,
    "eval",
    METRICS_FILE,
    PROFILE_FOLDER,
    "report.html",
    SAMPLES_FOLDER,
    "summary.json",
    TASK_STATE_FILE,
    "tensorboard",
    VALIDATION_FOLDER,
    "wandb",
)
_TRAJECTORIES_FILE = re.compile(r"step_(\d+)\.jsonl")
_LOCK = ".lock"
_HELD_LOCKS = Path("/proc/locks")  # one a line; who waits for one has "->"


class RunFolderError(UserError):
    """The run may not write where it was told to."""


def trajectories_file(folder: Path, step: int) -> Path:
    """Where the trajectories of a step lie."""
    return folder / f"step_{step}.jsonl"


def trajectories_files(folder: Path) -> dict[int, Path]:
    """Files by step, ascending; none for a folder that does not exist."""
    found = {
        int(match.group(1)): path
        for path in folder.glob("step_*.jsonl")
        if (match := _TRAJECTORIES_FILE.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


@contextmanager
def claim_run_folder(
    folder: Path,
    inputs: Sequence[str] = (),
    find_start: Callable[[], Checkpoint | None] = lambda: None,
) -> Iterator[Checkpoint | None]:
    """Makes ``folder`` this run's own for as long as the block lasts; yields where it starts.

    Args:
        folder: made if it is missing.
        inputs: paths that the run reads (a model, say); they must not lie in what is set aside.
        find_start: the checkpoint that the run goes on from, None to begin anew; asked when no
            other run writes there. One of another folder brings its run's metrics along.

    Raises:
        RunFolderError: if another run is writing there, or the earlier run there holds an input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"another run is writing into {folder}; give this one another "
                "trainer.experiment_name or trainer.default_local_dir"
            ) from None
        except OSError as error:  # a file system without locks
            logger.info("%s cannot be locked (%s): start no second run there", folder, error)
        start = find_start()
        if start is not None and start.belongs_to(folder):
            _cut_back(folder, start.step)
        else:
            _set_aside(folder, [*inputs, *([str(start.folder)] if start else [])])
        if start is not None:
            _keep_metrics(start.folder.parent.parent / METRICS_FILE, folder, start.step)
        yield start


def is_claimed(folder: Path) -> bool:
    """Whether a run on this machine writes into ``folder``; False also where the system does not
    say. It looks and takes no lock, which could keep a run from starting."""
    try:
        inode = (folder / _LOCK).stat().st_ino
        held = _HELD_LOCKS.read_text(encoding="ascii")
    except OSError:
        return False
    return any(
        "FLOCK" in line and "->" not in line and f":{inode} " in line for line in held.splitlines()
    )


def _set_aside(folder: Path, inputs: Sequence[str]) -> None:
    artifacts = [folder / name for name in _ARTIFACTS if (folder / name).exists()]
    if not artifacts:
        return
    for given, artifact in itertools.product(inputs, artifacts):
        if Path(given).resolve().is_relative_to(artifact.resolve()):
            raise RunFolderError(
                f"{given} belongs to the earlier run in {folder}, which this run would set "
                "aside; give this run another trainer.experiment_name"
            )
    remove_partial_checkpoints(folder)
    target = _move_to_earlier(folder, artifacts)
    logger.info("an earlier run in %s was set aside into %s", folder, target)


def _move_to_earlier(folder: Path, paths: Sequence[Path]) -> Path:
    target = folder / "earlier" / time.strftime("%Y%m%d-%H%M%S")
    while target.exists():
        target = target.with_name(f"{target.name}_")
    target.mkdir(parents=True)
    for path in paths:
        path.rename(target / path.name)
    return target


def _cut_back(folder: Path, step: int) -> None:
    """Removes what the run wrote after ``step``; later checkpoints are set aside."""
    remove_partial_checkpoints(folder)
    if later := [saved.folder for saved in list_checkpoints(folder) if saved.step > step]:
        target = _move_to_earlier(folder, later)
        logger.info("checkpoints after step %d were set aside into %s", step, target)
    for name in (SAMPLES_FOLDER, VALIDATION_FOLDER):
        for of_step, path in trajectories_files(folder / name).items():
            if of_step > step:
                path.unlink()


def _keep_metrics(metrics: Path, folder: Path, step: int) -> None:
    """Writes the lines of ``metrics`` up to ``step`` into the run's own file."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8").splitlines()
        kept = [f"{line}\n" for line in lines if _step_of(line) <= step]
        write_text(folder / METRICS_FILE, "".join(kept))


def _step_of(line: str) -> float:
    """Infinite for a line that a machine's crash has cut off."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")
