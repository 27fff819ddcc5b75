"""``bash train.sh --check`` as a user runs it; no hub and no endpoint answers here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from verl.config.validation import ConfigError
from verl.trainer import main_check, main_ppo
from verl.trainer.check.run_checks import ChecksFailedError, all_lines, choose_device, show
from verl.trainer.launch import load_task_config
from verl.trainer.machine import Gpu, Machine
from verl.utils.checklist import GIB, CheckLine, Verdict
from verl.utils.console import console

ROOT = Path(__file__).resolve().parents[5]
NOWHERE = "http://127.0.0.1:9/v1"


def check(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command's main function."""
    with console.capture() as capture, pytest.raises(SystemExit) as end:
        main_check.main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code, capture.get()


def test_the_quickstart_is_ready(tmp_path: Path) -> None:
    result = subprocess.run(
        ["bash", "train.sh", "--check", "recipe=quickstart", f"world.folder={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for words in ("train rows", "main memory", "/dev/shm", "about 8,848, at most 18,960"):
        assert words in result.stdout
    assert ", 0 not ok," in result.stdout


def test_a_described_machine_is_for_checks_only() -> None:
    result = subprocess.run(
        ["bash", "train.sh", "--gpus", "4x80"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "bash train.sh --check --gpus 4x80" in result.stderr


def test_keys_can_be_copied_whole() -> None:
    """A line of advice that is longer than the terminal is not broken by us."""
    advice = "change " + ", ".join(f"actor_rollout_ref.rollout.some_key_{i}" for i in range(9))
    with console.capture() as capture:
        show("a check", [CheckLine("memory", Verdict.NOT_OK, "1 GiB", "2 GiB", advice)])
    assert f"\nmemory: {advice}\n" in capture.get()


def test_the_papers_recipe_lacks_its_data_and_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("data", "model_shape"):
        monkeypatch.setattr(f"verl.trainer.check.{module}.hub_answers", lambda: False)
    missing = ("data.train_files=[no/such.parquet]", "data.val_files=[no/such.parquet]")
    code, output = check(
        *("recipe=paper_qwen", "--gpus", "4x80", *missing),
        *(f"api_base={NOWHERE}", "api_key=sk-planted"),
    )
    assert code == 2
    assert "no such data file" in output
    assert "fits in 78.8 GiB" in output
    assert "\ntokenizer and chat template: download the model, or change" in output
    assert "sk-planted" not in output
    # What to change stands on lines of its own, and keys are never broken.
    assert "\ntrain rows: prepare the file, or change data.train_files\n" in output
    assert "\npool endpoint 127.0.0.1:9: see pool.api_base\n" in output


def test_a_run_refuses_at_its_start_what_cannot_work(tmp_path: Path) -> None:
    overrides = [
        *("recipe=quickstart", f"world.folder={tmp_path}"),
        f"trainer.default_local_dir={tmp_path}/run",
        "actor_rollout_ref.rollout.cpu_kv_cache_gib=100000",
    ]
    with (
        console.capture() as capture,
        pytest.raises(ChecksFailedError, match="checks failed: main memory: training"),
    ):
        main_ppo.main(overrides)
    assert "This run cannot work here" in capture.get()
    assert "change actor_rollout_ref.rollout.cpu_kv_cache_gib" in capture.get()


def test_a_machine_with_gpus_cannot_be_meant_for_a_run_on_the_cpu() -> None:
    task_class, config = load_task_config(["recipe=quickstart"])
    with pytest.raises(ConfigError, match=r"--gpus.*trainer\.device=cpu"):
        all_lines(config, task_class(config), Machine.parse("4x80"))


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    config = load_task_config(["recipe=paper_qwen", "trainer.device=auto"])[1]
    with_gpu = Machine(described=False, gpus=(Gpu("card", 80 * GIB),), ram_bytes=None)
    without = Machine(described=False, gpus=(), ram_bytes=None)
    assert (choose_device(config, with_gpu), choose_device(config, without)) == ("cuda", "cpu")
