"""A GRPO step of ours beside one of TRL's GRPOTrainer, on the same policy and prompts.

    .venv/bin/python -m benchmarks.peer_trl

Both have the quickstart's policy after its cold start, 128 samples a step in groups of 8, one turn
of 48 tokens (it never ends one itself), a reward that calls nobody, two epochs over two
mini-batches of 64, no KL, no entropy bonus, gradients clipped at 1, float32, and both cores. The
learning rate is too small to change what is sampled, so that lengths stay alike. Ours has two ranks
and a vLLM engine, TRL's is one process of two threads that samples by transformers' ``generate``,
its default. Ours is timed as the run's metrics say it (``timing_s/*``), TRL's from the end of one
batch's updates to the next, and in the method that makes a batch; the median counts, without the
first. The sides run one after the other.

TRL is installed on first use, from the package index, into ``build/trl``, over our own torch and
transformers.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.distinct_words import distinct_words
from benchmarks.figures import ROOT
from benchmarks.first_policy import first_policy
from benchmarks.step_breakdown import steps_of
from router_r1.task import RoutingTask
from verl.agents.episode import Episode
from verl.agents.loop import AgentLoop
from verl.config.ppo import DataConfig, RayConfig
from verl.interfaces import GenerationEngine, RewardOutput, RolloutOptions, RolloutRequest
from verl.protocol import DataProto
from verl.task import Task
from verl.trainer.cluster import ray_cluster
from verl.trainer.launch import load_task_config
from verl.trajectory import AgentRecord, Trajectory, TrajectoryStatus
from verl.utils.chat_template import ChatTemplate
from verl.utils.console import console

TRL = "1.16.0"
ENVIRONMENT = ROOT / "build" / "trl"
PROMPTS, GROUP, SAMPLES, MINI_BATCH, EPOCHS, TOKENS, LR = 64, 8, 128, 64, 2, 48, 1e-7
BATCHES = 6
# What makes a batch that can be learned from, among the parts of our step.
MAKING = ("gen", "reward", "log_probs", "adv")
Figures = dict[str, float]
Seconds = dict[str, list[float]]
"""Of each step but the first: "step" the whole, "batch" until there is what to learn from."""


@dataclass(frozen=True)
class Written(AgentRecord):
    """What the policy wrote."""

    text: str


class OneTurn(AgentLoop[Written]):
    """One generation a request, to the limit of tokens."""

    def __init__(self, engine: GenerationEngine, tokenizer: Any, lengths: DataConfig) -> None:
        super().__init__()
        self._engine, self._tokenizer, self._lengths = engine, tokenizer, lengths
        self._template = ChatTemplate(tokenizer)

    async def run_one(
        self, request: RolloutRequest, options: RolloutOptions
    ) -> Trajectory[Written]:
        """Runs one request."""
        prompt = self._template.render(request.messages)
        limit = self._lengths.max_prompt_length
        episode = Episode(self._engine, request, options, prompt.token_ids, limit)
        output = await episode.generate(TOKENS, ())
        text = self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
        return episode.finish(TrajectoryStatus.ANSWERED, Written(text))


class DistinctWords:
    """Implements :class:`verl.interfaces.RewardFunction`; no state."""

    def __call__(self, batch: DataProto, validate: bool) -> RewardOutput:  # noqa: ARG002
        """Scores every trajectory of ``batch``."""
        records = batch.non_tensor_batch["record"]
        values = np.array([distinct_words(record.text) for record in records])
        return RewardOutput(values, {"metric": values})

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing over."""


class OneTurnTask(Task):
    """Of our side."""

    record_class = Written

    def agent(self, engine: GenerationEngine, tokenizer: Any) -> OneTurn:
        """One turn."""
        return OneTurn(engine, tokenizer, self.config.data)

    def reward(self) -> DistinctWords:
        """Words."""
        return DistinctWords()


def prompts() -> list[str]:
    """Questions of the quickstart, as it asks them."""
    task_class, config = load_task_config(["recipe=quickstart"])
    task = task_class(config)
    assert isinstance(task, RoutingTask)
    questions = task.config.setting.make_world().knowledge.questions("train")[:PROMPTS]
    return [str(task.config.setting.template.replace("{question}", q.text)) for q in questions]


def ours(policy: Path, texts: list[str], folder: Path) -> Seconds:
    """Of our side."""
    rows = [
        {
            "data_source": "world",
            "prompt": [{"role": "user", "content": text}],
            "reward_model": {"ground_truth": {"target": ["not looked at"]}},
        }
        for text in texts
    ]
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    settings = (
        "task._target_=benchmarks.peer_trl.OneTurnTask",
        f"data.train_files=[{folder}/rows.parquet]",
        f"data.val_files=[{folder}/rows.parquet]",
        f"data.train_batch_size={SAMPLES // GROUP}",
        "data.max_start_length=256",
        "data.max_prompt_length=512",
        f"data.max_response_length={TOKENS}",
        f"actor_rollout_ref.model.path={policy}",
        "actor_rollout_ref.model.dtype=float32",
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        f"actor_rollout_ref.actor.optim.lr={LR}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={MINI_BATCH}",
        f"actor_rollout_ref.actor.ppo_epochs={EPOCHS}",
        "actor_rollout_ref.actor.kl_loss_coef=0",
        "actor_rollout_ref.actor.entropy_coeff=0",
        "actor_rollout_ref.actor.optim.grad_clip=1.0",
        "actor_rollout_ref.actor.fsdp_config.param_offload=false",
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload=false",
        f"actor_rollout_ref.rollout.n_agent={GROUP}",
        "actor_rollout_ref.rollout.dtype=float32",
        "actor_rollout_ref.rollout.enforce_eager=true",
        "actor_rollout_ref.rollout.inline_engine=true",
        "actor_rollout_ref.rollout.cpu_threads=2",
        f"actor_rollout_ref.rollout.max_num_seqs={SAMPLES}",
        "algorithm.adv_estimator=grpo",
        f"trainer.default_local_dir={folder}/run",
        "trainer.experiment_name=peer_trl",
        f"trainer.total_training_steps={BATCHES}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.n_gpus_per_node=2",
        "trainer.device=cpu",
        "trainer.logger=[jsonl]",
        "ray.num_cpus=4",
    )
    _run([sys.executable, "-m", "verl.trainer.main_ppo", "--config-name", "ppo", *settings])
    steps = steps_of(folder / "run")[1:]
    return {
        "step": [float(step["timing_s/step"]) for step in steps],
        "batch": [sum(float(step[f"timing_s/{part}"]) for part in MAKING) for step in steps],
    }


def peers(policy: Path, texts: list[str], folder: Path) -> Seconds:
    """Of TRL's."""
    file = folder / "settings.json"
    settings = {
        "policy": str(policy),
        "prompts": texts,
        "threads": len(os.sched_getaffinity(0)),
        "group": GROUP,
        "samples": SAMPLES,
        "mini_batch": MINI_BATCH,
        "epochs": EPOCHS,
        "tokens": TOKENS,
        "lr": LR,
        "batches": BATCHES,
    }
    file.write_text(json.dumps(settings), encoding="utf-8")
    python = str(ENVIRONMENT / "bin" / "python")
    said = _run([python, "-m", "benchmarks.trl_steps", str(file)])
    seconds: Seconds = json.loads(said.splitlines()[-1])
    return seconds


def make_environment() -> None:
    """TRL over our packages; nothing is done where it is there."""
    stamp = ENVIRONMENT / f"trl-{TRL}"
    if stamp.is_file():
        return
    console.print(f"installing TRL {TRL} into {ENVIRONMENT}")
    _run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])
    python = str(ENVIRONMENT / "bin" / "python")
    words = (python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    site = Path(_run(list(words)).strip())
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    kept = [f"{package}=={version(package)}" for package in ("torch", "transformers")]
    _run([python, "-m", "pip", "install", "--quiet", f"trl=={TRL}", *kept])
    stamp.touch()


def _run(command: list[str]) -> str:
    """What a command writes to stdout."""
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command[:4])} failed: {(done.stdout + done.stderr)[-2_000:]}"
        )
    return done.stdout


def measure() -> Figures:
    """Both sides; prints the seconds of their steps."""
    make_environment()
    with ray_cluster(RayConfig(num_cpus=2), num_ranks=2):
        policy = first_policy().resolve()
    texts = prompts()
    with tempfile.TemporaryDirectory(prefix="peer-") as name:
        their = peers(policy, texts, Path(name))
        own = ours(policy, texts, Path(name))
    for side, seconds in (("TRL", their), ("ours", own)):
        told = ", ".join(f"{took:.2f}" for took in seconds["step"])
        console.print(f"{side}: {told} s a step, of which {_batch(seconds):.2f} make the batch")
    step, peer_step = statistics.median(own["step"]), statistics.median(their["step"])
    batch, peer_batch = _batch(own), _batch(their)
    return {
        "a step": step,
        "a step of TRL's": peer_step,
        "TRL's time over ours": peer_step / step,
        "TRL's time over ours, making the batch": peer_batch / batch,
        "TRL's time over ours, updates": (peer_step - peer_batch) / (step - batch),
    }


def _batch(seconds: Seconds) -> float:
    return statistics.median(seconds["batch"])


if __name__ == "__main__":
    measure()
