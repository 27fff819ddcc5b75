"""The quickstart's tiny policy with random weights, tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path

from router_r1.pool.loading import load_pool
from router_r1.world.cold_start.policy import create_policy
from router_r1.world.cold_start.setting import Setting
from router_r1.world.config import PolicySize


def write_policy(folder: Path) -> Path:
    """A folder that trainer and engine load."""
    create_policy(Setting(pool=load_pool("embedded")), PolicySize(), seed=0, folder=folder)
    return folder
