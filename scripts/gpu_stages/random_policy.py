"""The quickstart's tiny policy with random weights, tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path

from router_r1.pool.loading import load_pool
from router_r1.world.cold_start.policy import create_policy
from router_r1.world.config import PolicySize, WorldConfig
from router_r1.world.simulated_llm import World


def write_policy(folder: Path) -> Path:
    """A folder that trainer and engine load."""
    create_policy(World(WorldConfig()), load_pool("embedded"), PolicySize(), seed=0, folder=folder)
    return folder
