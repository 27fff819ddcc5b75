"""Writes trajectories down, for people who want to see what the policy does."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from verl.trajectory import Trajectory


def write_trajectories(
    path: Path, trajectories: Sequence[Trajectory], columns: dict[str, np.ndarray]
) -> None:
    """One JSON object a line: uid, status, whether it was excluded, what the agent reports, and the
    reward's numbers.

    The file is there whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        for i, trajectory in enumerate(trajectories):
            record = {
                "uid": trajectory.uid,
                "status": trajectory.status.value,
                "excluded": trajectory.excluded,
                **{name: float(values[i]) for name, values in columns.items()},
                **trajectory.extras,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    os.replace(temporary, path)
