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

from router_r1.pool.config import PoolConfig
from router_r1.tags import Tags
from router_r1.world.cold_start.policy import create_policy
from router_r1.world.config import ColdStartConfig, EmbeddedWorldConfig, WorldConfig
from router_r1.world.simulated_llm import World
from verl.config.model import ModelConfig, OptimConfig
from verl.config.ppo import TrainerConfig
from verl.config.sft import ComponentConfig, SFTConfig, SFTDataConfig, SFTTrainerConfig
from verl.trainer.main_sft import run_sft

logger = logging.getLogger(__name__)
_GATE_QUESTIONS = 200
_KEY_FILE = "cold_start.json"


def ensure_cold_start(
    config: ColdStartConfig,
    world_config: EmbeddedWorldConfig,
    pool: PoolConfig,
    trainer: TrainerConfig,
    tags: Tags,
    state_cost_coe: bool,
) -> None:
    """Leaves a policy that passed its gate in ``config.folder``; Ray must be up.

    Raises:
        verl.trainer.sft.gate.GateError: if training does not reach the gate.
    """
    folder = Path(config.folder)
    key = _cache_key(config, world_config, pool, tags, state_cost_coe)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _KEY_FILE).is_file() and (folder / _KEY_FILE).read_text(
            encoding="utf-8"
        ) == key:
            logger.info("cold start: taken from %s", folder)
            return
        logger.info("cold start: teaching the tiny policy format and copying, with random routing")
        _make_policy(config, world_config, pool, trainer, tags, state_cost_coe)
        (folder / _KEY_FILE).write_text(key, encoding="utf-8")


def _make_policy(
    config: ColdStartConfig,
    world_config: EmbeddedWorldConfig,
    pool: PoolConfig,
    trainer: TrainerConfig,
    tags: Tags,
    state_cost_coe: bool,
) -> None:
    folder = Path(config.folder)
    world = World.of_pool(world_config, pool)
    blank = folder.with_name(f"{folder.name}.blank")
    shutil.rmtree(blank, ignore_errors=True)
    create_policy(world, pool, config.policy, config.seed, blank, tags, state_cost_coe)
    shared = {
        "world": _world_fields(world_config),
        "pool": asdict(pool),
        "route_tag": tags.route,
        "state_cost_coe": state_cost_coe,
    }
    run_sft(
        SFTConfig(
            model=ModelConfig(
                path=str(blank),
                dtype="float32",
                enable_gradient_checkpointing=False,
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
                args={
                    **shared,
                    "tokenizer_path": str(blank),
                    "seed": config.seed,
                    "copy_steps": config.copy_steps,
                    "no_reply_share": config.no_reply_share,
                },
            ),
            gate=ComponentConfig(
                target="router_r1.world.cold_start.routing_gate.ColdStartGate",
                args={
                    **shared,
                    "thresholds": asdict(config.gate),
                    "num_questions": _GATE_QUESTIONS,
                    "seed": config.seed,
                },
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


def _world_fields(config: EmbeddedWorldConfig) -> dict[str, object]:
    """Only what :class:`WorldConfig` knows: where files go does not shape the policy."""
    return {name: getattr(config, name) for name in WorldConfig.__dataclass_fields__}


def _cache_key(
    config: ColdStartConfig,
    world: EmbeddedWorldConfig,
    pool: PoolConfig,
    tags: Tags,
    state_cost_coe: bool,
) -> str:
    """Settings and the source code of the world, which writes the traces."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    code = hashlib.blake2b(b"".join(p.read_bytes() for p in sources), digest_size=16).hexdigest()
    settings = asdict(config)
    del settings["folder"]
    offered = [(llm.name, llm.descriptor) for llm in pool.offered]
    parts = {
        "settings": settings,
        "world": _world_fields(world),
        "pool_name": pool.name,
        "pool": offered,
        "route_tag": tags.route,
        "state_cost_coe": state_cost_coe,
        "code": code,
    }
    return json.dumps(parts, sort_keys=True)
