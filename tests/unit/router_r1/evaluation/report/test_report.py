"""The evaluation report: what enters the page is what the records say, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router_r1.evaluation.comparison import EvaluationFileError
from router_r1.evaluation.frames import RoutedRecord
from router_r1.evaluation.published import published_figures
from router_r1.evaluation.report.page import write_report
from tests.world_records import HOSTILE
from verl.trainer.evaluation.records import RecordError, write_parquet


def write_evaluation(folder: Path, records: list[RoutedRecord], **files: Any) -> Path:
    """An evaluation's folder; ``files`` are JSON contents by name without suffix."""
    write_parquet(folder / "questions.parquet", records)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def comparison(**row: Any) -> dict[str, Any]:
    base = {"kind": "learned", "em": 0.5, "f1": 0.5, "cost": 20.0, "dollars": 2e-5, "calls": 1.0}
    base |= {"name": "kNN", "em_low": 0.4, "em_high": 0.6, "by_source": {}}
    point = {"cost_coe": 0.3, "em": 0.6, "cost": 15.0, "dollars": 1.5e-5, "calls": 1.0}
    return {"title": "Test questions", "rows": [base | row], "sweep": [point]}


def test_the_page_runs_its_own_script_only_and_loads_nothing(tmp_path, records):
    hostile_name = {"model": HOSTILE, "pool": "embedded", "sampling": {"temperature": 0.0}}
    hostile = [replace(records[0], data_source=HOSTILE, prompt=HOSTILE), *records[1:30]]
    folder = write_evaluation(
        tmp_path, hostile, results=hostile_name, comparison=comparison(name=HOSTILE)
    )
    page = write_report(folder).read_text()
    scripts = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    assert "window.pwned=1</script>" not in page
    assert "&lt;script&gt;window.pwned=1" in page
    assert not re.search(r"(src|href)=[\"'](?!#|data:)", page)
    assert not list(folder.glob(".*tmp*"))


def test_published_figures_stand_beside_ours_where_the_benchmark_was_run(tmp_path, records):
    ours = write_evaluation(tmp_path / "a", records[:50])
    assert 'id="published"' not in write_report(ours).read_text()
    renamed = [replace(record, data_source="nq") for record in records[:50]]
    page = write_report(write_evaluation(tmp_path / "b", renamed)).read_text()
    table = page[page.index('id="published"') :]
    assert "not measured here" in table
    assert table.count(">published</span>") == len(published_figures()) + 1
    assert "0.388" in table
    assert "EM musique" not in table


def test_learning_curves_come_from_the_runs_folder(tmp_path, records):
    folder = write_evaluation(tmp_path / "run" / "eval", records[:10])
    assert 'id="learning"' not in write_report(folder).read_text()
    metrics = folder.parent / "metrics.jsonl"
    rows = [{"step": step, "critic/score/mean": step / 10} for step in range(10)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10, "cri')
    page = write_report(folder).read_text()
    assert 'id="learning"' in page
    assert "<h1>run</h1>" in page


def test_a_file_that_cannot_be_used_is_named(tmp_path, records):
    with pytest.raises(RecordError, match=r"questions\.parquet"):
        write_report(tmp_path)
    folder = write_evaluation(tmp_path, records[:3], comparison={"title": "x"})
    with pytest.raises(EvaluationFileError, match=r"comparison\.json"):
        write_report(folder)
    (folder / "comparison.json").unlink()
    (folder / "results.json").write_text("{")
    with pytest.raises(EvaluationFileError, match=r"results\.json"):
        write_report(folder)
    write_parquet(folder / "questions.parquet", [])
    with pytest.raises(RecordError, match="no record"):
        write_report(folder)


def test_the_command_says_where_the_report_is_and_what_is_missing(tmp_path, records):
    """It imports neither torch nor transformers, which take seconds."""

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        told = [sys.executable, "-X", "importtime"]
        command = [*told, "-m", "router_r1.evaluation.report", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    folder = write_evaluation(tmp_path / "eval", records[:5])
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report.html").is_file()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pandas" in imported
    assert not {"torch", "transformers"} & imported
    failed = run(tmp_path / "nowhere")
    assert failed.returncode == 2
    assert "questions.parquet" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr
