"""Makes the first policy of the embedded world: random weights, then supervised traces.

Guarantees: the policy is cached under a key of everything that shapes it, whole or not at all; a
policy that does not pass its gate is never used; of several runs at once, one makes it and the
others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

from router_r1.world.cold_start.policy import create_policy
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import ColdStartConfig
from verl.config.model import ModelConfig, OptimConfig
from verl.config.ppo import TrainerConfig
from verl.config.sft import ComponentConfig, SFTConfig, SFTDataConfig, SFTTrainerConfig
from verl.trainer.main_sft import run_sft

logger = logging.getLogger(__name__)
_KEY_FILE = "cold_start.json"


def ensure_cold_start(config: ColdStartConfig, setting: Setting, trainer: TrainerConfig) -> None:
    """Leaves a policy that passed its gate in ``config.folder``; Ray must be up.

    Raises:
        verl.trainer.sft.gate.GateError: if training does not reach the gate.
    """
    folder = Path(config.folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_made(config, setting):
            logger.info("cold start: taken from %s", folder)
            return
        logger.info("cold start: teaching the tiny policy format and copying, not whom to ask")
        _make_policy(config, setting, trainer)
        (folder / _KEY_FILE).write_text(_cache_key(config, setting), encoding="utf-8")


def is_made(config: ColdStartConfig, setting: Setting) -> bool:
    """Whether ``config.folder`` holds the policy of these settings and of today's code."""
    file = Path(config.folder) / _KEY_FILE
    return file.is_file() and file.read_text(encoding="utf-8") == _cache_key(config, setting)


def _make_policy(config: ColdStartConfig, setting: Setting, trainer: TrainerConfig) -> None:
    folder = Path(config.folder)
    blank = folder.with_name(f"{folder.name}.blank")
    shutil.rmtree(blank, ignore_errors=True)
    create_policy(setting, config.policy, config.seed, blank, config.words)
    run_sft(
        SFTConfig(
            model=ModelConfig(
                path=str(blank), dtype="float32", enable_gradient_checkpointing=False
            ),
            optim=OptimConfig(
                lr=config.lr,
                betas=(0.9, 0.98),
                lr_warmup_steps=40,
                warmup_style="cosine",
                min_lr_ratio=0.05,
            ),
            data=SFTDataConfig(
                target="router_r1.world.cold_start.traces.TraceDataset",
                args={"tokenizer_path": str(blank), "setting": setting, "config": config},
            ),
            gate=ComponentConfig(
                target="router_r1.world.cold_start.routing_gate.ColdStartGate",
                args={"setting": setting, "config": config},
            ),
            trainer=SFTTrainerConfig(
                output_dir=str(folder),
                steps=config.steps,
                batch_size=config.batch_size,
                gate_freq=config.gate_freq,
                n_gpus_per_node=trainer.n_gpus_per_node,
                device=trainer.device,
                cpu_threads=trainer.cpu_threads,
                seed=config.seed,
            ),
        )
    )
    shutil.rmtree(blank, ignore_errors=True)


def _cache_key(config: ColdStartConfig, setting: Setting) -> str:
    """Settings and the source code of the world, which writes the traces."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = hashlib.blake2b(b"".join(p.read_bytes() for p in sources), digest_size=16).hexdigest()
    settings, taught = asdict(config), asdict(setting)
    del settings["folder"], taught["pool"]
    parts = {
        "settings": settings,
        **taught,
        "prompt": setting.template,
        "pool_name": setting.pool.name,
        "pool": [(llm.name, llm.descriptor, llm.completion_price) for llm in setting.pool.offered],
        "code": code,
    }
    return json.dumps(parts, sort_keys=True)
