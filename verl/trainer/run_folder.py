"""The folder that a training run writes into.

Guarantees: one run at a time writes into a folder; what an earlier run left there is set aside
whole before the new one writes anything, so that nothing reads the two as one.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from verl.errors import UserError
from verl.utils.checkpoints import remove_partial_checkpoints

logger = logging.getLogger(__name__)

# What a run leaves; data files and recordings may lie beside it and stay.
_ARTIFACTS = (
    "checkpoints",
    "config.yaml",
    "curves.png",
    "eval",
    "metrics.jsonl",
    "report.html",
    "samples",
    "summary.json",
    "tensorboard",
    "validation",
    "wandb",
)
_EARLIER = "earlier"
_LOCK = ".lock"
_HELD_LOCKS = Path("/proc/locks")  # one a line; who waits for one has "->"


class RunFolderError(UserError):
    """The run may not write where it was told to."""


@contextmanager
def claim_run_folder(folder: Path, inputs: Sequence[str] = ()) -> Iterator[None]:
    """Makes ``folder`` this run's own for as long as the block lasts.

    Args:
        folder: made if it is missing.
        inputs: paths that the run reads (a model, say); they must not lie in what is set aside.

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
        _set_aside(folder, inputs)
        yield


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
    for given in inputs:
        for artifact in artifacts:
            if Path(given).resolve().is_relative_to(artifact.resolve()):
                raise RunFolderError(
                    f"{given} belongs to the earlier run in {folder}, which this run would set "
                    "aside; give this run another trainer.experiment_name"
                )
    remove_partial_checkpoints(folder)
    target = folder / _EARLIER / time.strftime("%Y%m%d-%H%M%S")
    while target.exists():
        target = target.with_name(f"{target.name}_")
    target.mkdir(parents=True)
    for artifact in artifacts:
        artifact.rename(target / artifact.name)
    logger.info("an earlier run in %s was set aside into %s", folder, target)
