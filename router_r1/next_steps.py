"""What to try once a router is trained: the commands, ready to be copied."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from verl.utils.checkpoints import find_newest_actor

_PROGRAM = "router-r1"


def next_commands(output_dir: Path, question: str) -> list[tuple[str, str]]:
    """Commands and what each does, of a finished run.

    Args:
        output_dir: of the run; without a checkpoint there is no router to ask.
        question: to ask it.
    """
    program = _PROGRAM if shutil.which(_PROGRAM) else _from_here(Path(sys.prefix, "bin", _PROGRAM))
    commands = []
    if actor := find_newest_actor(output_dir):
        command = [program, "ask", "--question", question, "--model_path", _from_here(actor)]
        commands.append((shlex.join(command), "ask the trained router"))
    report = [program, "report", _from_here(output_dir)]
    commands.append((shlex.join(report), "see how its answers changed, question by question"))
    return commands


def _from_here(path: Path) -> str:
    """Relative to the working directory where it lies in there."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
