"""Rows of data files, whole and with one value changed."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

ROW: dict[str, Any] = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "Question: who?"}],
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Paris", "Paris, France"]}},
    "extra_info": {"index": 0, "question": "who?", "domains": ["film"]},
}


def with_value(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    row = deepcopy(ROW)
    holder: Any = row
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return row


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)
