"""What to try once a router is trained: the commands, ready to be copied."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from verl.config.saving import KeepBestConfig
from verl.errors import UserError
from verl.utils.checkpoints import actor_to_score

_PROGRAM = "router-r1"


def next_commands(
    output_dir: Path, question: str, best: KeepBestConfig | None = None
) -> list[tuple[str, str]]:
    """Commands and what each does, of a finished run.

    Args:
        output_dir: of the run; without a checkpoint there is no router to ask.
        question: to ask it.
        best: which checkpoint is the router; None takes the newest.
    """
    program = _PROGRAM if shutil.which(_PROGRAM) else _from_here(Path(sys.prefix, "bin", _PROGRAM))
    commands = []
    with suppress(UserError):
        actor = actor_to_score(output_dir, best)
        command = [program, "ask", "--question", question, "--model_path", _from_here(actor)]
        commands.append((shlex.join(command), "ask the trained router"))
    report = [program, "report", _from_here(output_dir)]
    commands.append((shlex.join(report), "see how its answers changed, question by question"))
    return commands


def _from_here(path: Path) -> str:
    """Relative to the working directory where it lies in there."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
