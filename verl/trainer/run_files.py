"""Names of what a training run writes into its folder, beside its checkpoints and metrics."""

from __future__ import annotations

import re
from pathlib import Path

ENVIRONMENT_FILE = "environment.json"
PROFILE_FOLDER = "profile"
SAMPLES_FOLDER = "samples"
TASK_STATE_FILE = "task_state.json"
VALIDATION_FOLDER = "validation"

_FILE = re.compile(r"step_(\d+)\.jsonl")


def trajectories_file(folder: Path, step: int) -> Path:
    """Where the trajectories of a step lie."""
    return folder / f"step_{step}.jsonl"


def trajectories_files(folder: Path) -> dict[int, Path]:
    """Files by step, ascending; none for a folder that does not exist."""
    found = {
        int(match.group(1)): path
        for path in folder.glob("step_*.jsonl")
        if (match := _FILE.fullmatch(path.name))
    }
    return dict(sorted(found.items()))
