"""Turns FlashRAG questions into the parquet files that training and evaluation read.

Guarantees: the same arguments give the same file; a file is there whole and readable by the
trainer, or not at all; what was taken and what was dropped is reported.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.table import Table

from data_process.flashrag import SourceFile, SourceQuestion, read_source
from data_process.preparation import DATASETS, Preparation
from router_r1.llm_agent.prompt import build_prompt_template, fill
from router_r1.pool.loading import load_pool
from router_r1.tags import Tags
from verl.utils.arrow import arrow_path
from verl.utils.console import console, progress_bar
from verl.utils.dataset import DataError, PromptDataset
from verl.utils.files import written_whole


def prepare(preparation: Preparation, args: argparse.Namespace) -> list[Path]:
    """Writes the files; returns their paths.

    Raises:
        UserError: for an unknown source or pool, and whatever :func:`read_source` raises.
    """
    sources = [name.strip() for name in args.data_sources.split(",") if name.strip()]
    unknown = [name for name in sources if name not in DATASETS]
    if unknown or not sources:
        raise DataError(f"--data_sources={args.data_sources!r}: choose from {', '.join(DATASETS)}")
    if args.num_samples < 1:
        raise DataError(f"--num_samples must be at least 1, got {args.num_samples}")
    template = build_prompt_template(args.model, load_pool(args.pool), Tags(args.route_tag))
    report = Table(title="Rows", title_justify="left")
    for column in ("dataset", "split", "usable", "taken", "dropped"):
        report.add_column(column, justify="left" if column in ("dataset", "split") else "right")
    files: dict[Path, list[dict[str, Any]]] = {}
    with progress_bar() as progress:
        for name in progress.track(sources, description="reading"):
            source = read_source(name, preparation.splits, args.source_dir)
            taken = _sample(source, args.num_samples, args.seed)
            target = args.local_dir / preparation.file_name.format(source=name, model=args.model)
            files.setdefault(target, []).extend(_row(source, q, template) for q in taken)
            dropped = ", ".join(f"{count} {why}" for why, count in source.dropped.items()) or "0"
            report.add_row(name, source.split, str(len(source.questions)), str(len(taken)), dropped)
    console.print(report)
    for path, rows in files.items():
        _write(path, rows)
        console.print(f"wrote {len(rows)} rows to {path}", highlight=False)
    return list(files)


def _sample(source: SourceFile, count: int, seed: int) -> list[SourceQuestion]:
    """Random rows in random order; a source's draw does not depend on the others asked for."""
    rng = np.random.default_rng([seed, zlib.crc32(source.dataset.encode())])
    size = min(count, len(source.questions))
    return [source.questions[i] for i in rng.choice(len(source.questions), size, replace=False)]


def _row(source: SourceFile, question: SourceQuestion, template: str) -> dict[str, Any]:
    return {
        "data_source": source.dataset,
        "prompt": [{"role": "user", "content": fill(template, question.question)}],
        "ability": "fact-reasoning",
        "reward_model": {
            "style": "rule",
            "ground_truth": {"target": question.golden_answers},
        },
        "extra_info": {
            "split": source.split,
            "index": question.index,
            "question": question.question,
        },
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with written_whole(path) as temporary:
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), arrow_path(temporary))
        readable = len(PromptDataset([str(temporary)], "prompt"))
        if readable != len(rows):
            raise DataError(f"{path}: {len(rows)} rows were written, {readable} can be read")
