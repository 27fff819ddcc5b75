"""The quickstart's policy after its cold start: it knows the format, and routes at random."""

from __future__ import annotations

from pathlib import Path

from router_r1.config import RouterConfig
from router_r1.world.cold_start.training import ensure_cold_start
from verl.trainer.launch import load_task_config


def first_policy() -> Path:
    """Its folder, the cache of ``bash train.sh``; made in about three minutes where that is empty.
    Ray must be up."""
    _, config = load_task_config(["recipe=quickstart"])
    assert isinstance(config, RouterConfig)
    assert config.cold_start is not None
    ensure_cold_start(config.cold_start, config.setting, config.trainer)
    return Path(config.cold_start.folder)
