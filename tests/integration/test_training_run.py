"""The whole stack by the user's own command: Ray, FSDP2 on two ranks, vLLM, HTTP pool."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from router_r1.llm_agent.trajectory import RoutedTrajectory
from tests.integration.commands import ROOT, Command, metrics_of, start
from verl.errors import UserError
from verl.trainer.environment import describe_code
from verl.trainer.launch import run_as_command
from verl.trainer.main_ppo import main as train
from verl.trainer.ppo.rollout_log import read_trajectories

pytestmark = pytest.mark.engine
PLANTED = ("sk-planted-on-the-command-line", "sk-planted-in-the-environment")
METRICS = (
    *(
        f"critic/{name}/{statistic}"
        for name in ("score", "rewards", "advantages", "returns", "values", "cost", "metric")
        for statistic in ("mean", "max", "min")
    ),
    *("critic/kl", "critic/kl_coeff", "critic/vf_loss", "critic/vf_clipfrac"),
    *("critic/vf_explained_var", "actor/entropy_loss", "actor/pg_loss", "actor/pg_clipfrac"),
    *("actor/ppo_kl", "actor/grad_norm", "actor/lr", "response_length/mean", "prompt_length/mean"),
    *("env/number_of_actions/mean", "env/finish_ratio", "env/number_of_valid_action"),
    *("env/ratio_of_valid_action", "env/number_of_valid_route", "state_tokens/total"),
    *("state_tokens/coverage", "global_seqlen/mean", "timing_s/step", "timing_s/gen"),
    *("timing_per_token_ms/gen", "timing_per_token_ms/update"),
)


def test_it_ends_well_and_leaves_no_process(small_run: tuple[Command, Path]) -> None:
    command, _ = small_run
    assert command.process.returncode == 0, command.output
    assert command.survivors() == []
    assert "Traceback" not in command.output
    assert "recipe quickstart" in command.output
    for words in ("step 1/3", "step 3/3", "trained router", "oracle", "best single LLM"):
        assert words in command.output


def test_it_writes_all_that_a_run_leaves(small_run: tuple[Command, Path]) -> None:
    _, folder = small_run
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["total_training_steps"] == 3
    summary = json.loads((folder / "summary.json").read_text())
    for row in ("untrained", "random", "best_single", "trained", "oracle"):
        assert set(summary[row]) == {"em", "f1", "cost", "calls"}
        assert all(math.isfinite(value) for value in summary[row].values())
    assert sum(account["answered"] for account in summary["spending"].values()) > 50
    assert summary["oracle"]["em"] > summary["best_single"]["em"]
    assert set(summary["seconds"]) == {"setup", "cold_start", "train", "total"}
    assert list(folder.glob("tensorboard/*"))
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["code"]["git_commit"] == describe_code(ROOT)["git_commit"]
    assert environment["packages"]["torch"]
    assert len(list((folder / "validation").glob("step_*.jsonl"))) == 2
    rows = (folder / "validation" / "step_0.jsonl").read_text().splitlines()
    assert len(rows) == 24


def test_it_says_before_and_while_it_trains_what_it_costs(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    before, training = command.output.split("starting 2 cpu ranks")
    assert re.search(r"calls of this run: about [\d,]+, at most", before)
    assert re.search(r"dollars of this run: none are paid; simulated: about \$0\.\d+", before)
    assert len(re.findall(r"step \d/3 .* simulated \$[\d.]+ of about \$[\d.]+", training)) == 3
    lines = metrics_of(folder)
    spent, at_end = "pool/spent_usd", "pool/spent_usd_at_end"
    assert lines[-1][at_end] == pytest.approx(lines[-1][spent]), "nothing more was to come"
    assert all(line[at_end] > line[spent] for line in lines[:-1])


def test_it_keeps_samples_and_names_what_to_try_next(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    for step in (1, 2, 3):
        records = read_trajectories(folder / "samples" / f"step_{step}.jsonl", RoutedTrajectory)
        assert len({record.prompt for record in records}) == 4
        assert all(record.trajectory.response_text for record in records)
        assert {"reward", "em", "cost"} <= records[0].scores.keys()
    assert f"router-r1 report {folder}" in command.output
    assert "router-r1 ask --question" in command.output


def test_metrics_keep_their_names(small_run: tuple[Command, Path]) -> None:
    _, folder = small_run
    lines = metrics_of(folder)
    steps = [line for line in lines if "critic/score/mean" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    actors = {name for name in METRICS if name.startswith("actor/")}
    for line in steps:
        missing = {name for name in METRICS if name not in line}
        assert missing == (actors if line["step"] == 1 else set()), "the critic's warm-up"
        assert line["env/ratio_of_valid_action"] > 0.5, "the cold start knows the format"
    validation = next(line for line in lines if "val/test_score/EM/all" in line)
    for name in ("EM", "F1", "cost", "reward", "route_cnt"):
        assert f"val/test_score/{name}/world_onehop" in validation
        assert f"val/test_score/{name}/world_twohop" in validation


def test_the_engine_has_the_trainers_weights_at_every_step(
    small_run: tuple[Command, Path],
) -> None:
    _, folder = small_run
    lines = metrics_of(folder)
    gaps = [line["rollout/log_prob_gap"] for line in lines if "rollout/log_prob_gap" in line]
    assert len(gaps) == 3
    assert max(gaps) < 1e-4


def test_no_process_is_started_to_look_at_the_model(small_run: tuple[Command, Path]) -> None:
    """vLLM would keep what such a process saw."""
    _, folder = small_run
    assert not (folder / "vllm_cache" / "modelinfos").exists()


def test_checkpoints_are_hugging_faces(small_run: tuple[Command, Path], cold_policy: Path) -> None:
    _, folder = small_run
    step = folder / "checkpoints" / "global_step_3"
    AutoModelForCausalLM.from_pretrained(step / "actor")
    assert AutoTokenizer.from_pretrained(step / "actor").chat_template
    critic = AutoModelForTokenClassification.from_pretrained(step / "critic")
    assert critic.config.num_labels == 1
    before = load_file(cold_policy / "model.safetensors")
    after = load_file(step / "actor" / "model.safetensors")
    assert any(not before[name].equal(after[name]) for name in after)


def test_no_key_reaches_what_a_run_writes(small_run: tuple[Command, Path]) -> None:
    command, folder = small_run
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for key in PLANTED:
        assert key not in command.output
        for path in files:
            assert key.encode() not in path.read_bytes(), path


def test_spending_adds_up_from_the_calls_to_the_summary(
    small_run: tuple[Command, Path],
) -> None:
    """Books balance to the cent: recorded calls, metrics and the last table agree."""
    _, folder = small_run
    summary = json.loads((folder / "summary.json").read_text())
    spent = sum(account["spent_usd"] for account in summary["spending"].values())
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["pool/spent_usd"] == pytest.approx(spent)
    validation = [
        json.loads(line)
        for path in sorted((folder / "validation").glob("step_*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    lines = metrics_of(folder)
    trained = sum(16 * line["reward/dollars"] for line in lines if "reward/dollars" in line)
    assert spent == pytest.approx(trained + sum(row["dollars"] for row in validation))
    outcomes = sum(
        value for line in lines for name, value in line.items() if name.startswith("pool/outcome/")
    )
    assert outcomes >= sum(account["calls"] for account in summary["spending"].values())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.train_files=[gone.parquet]"], ["no such data file: gone.parquet"]),
        (["data.train_batch_size=100"], ["100", "not divisible", "ppo_mini_batch_size = 64"]),
        (["data.train_data_num=64"], ["64 training rows are fewer"]),
        (["api_base=http://127.0.0.1:9/v1"], ["http://127.0.0.1:9/v1", "does not answer"]),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    tmp_path: Path, overrides: list[str], words: list[str]
) -> None:
    folders = (f"trainer.default_local_dir={tmp_path}/run", f"world.folder={tmp_path}/world")
    with pytest.raises(UserError) as refused:
        train(["recipe=quickstart", *overrides, *folders])
    for word in words:
        assert word in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_model_without_chat_template_is_refused_before_anything_starts(
    policy_folder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(policy_folder, bare)
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    written = json.loads((bare / "tokenizer_config.json").read_text())
    written.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(written))
    folders = (f"trainer.default_local_dir={tmp_path}/run", f"world.folder={tmp_path}/world")
    model = f"actor_rollout_ref.model.path={bare}"
    with pytest.raises(UserError, match="no chat template"):
        train(["recipe=quickstart", "cold_start=null", model, *folders])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.total_step=3"], ["trainer.total_step", "total_training_"]),
        (
            ["cold_start=null", "actor_rollout_ref.model.path=no/such/model"],
            ["model 'no/such/model' is neither"],
        ),
    ],
)
def test_the_command_says_in_words_what_is_wrong(
    tmp_path: Path, overrides: list[str], words: list[str]
) -> None:
    command = start(
        *(sys.executable, "-m", "verl.trainer.main_ppo", "recipe=quickstart", *overrides),
        *(f"trainer.default_local_dir={tmp_path}/run", f"world.folder={tmp_path}/world"),
        HF_HUB_OFFLINE="1",
    )
    assert command.finish() == 2, command.output
    assert "Traceback" not in command.output
    for word in words:
        assert word in command.output.replace("\n", " ")
    assert not (tmp_path / "run").exists(), "nothing has started"
    assert command.survivors() == []


def test_an_unknown_recipe_is_named_among_those_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main_ppo", "recipe=nowhere"])
    with pytest.raises(SystemExit) as ended:
        run_as_command(train)
    assert ended.value.code == 2
    said = capsys.readouterr()
    for word in ("nowhere", "quickstart"):
        assert word in said.out + said.err
