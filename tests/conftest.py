"""Fixtures that all tests share.

The process that hands out tests to the others imports this file too, before they start: what takes
seconds to import is imported where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.world.config import WorldConfig
from router_r1.world.simulated_llm import World
from tests.scheduling import SuiteScheduling, order_of

if TYPE_CHECKING:
    from tests.templates import MakeTokenizer

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


def reference_file(name: str) -> Path:
    """A file of the reference inputs and outputs; skips the test where they are absent."""
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"reference fixture {path} is not on this machine")
    return path


def reference_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in reference_file(name).read_text().splitlines()]


@pytest.fixture(scope="session")
def world() -> World:
    return World(WorldConfig())


@pytest.fixture(scope="session")
def embedded_pool() -> PoolConfig:
    return load_pool("embedded")


@pytest.fixture(scope="session")
def policy_folder(
    embedded_pool: PoolConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A tiny policy with random weights and the world's tokenizer."""
    from router_r1.world.cold_start.policy import create_policy
    from router_r1.world.cold_start.setting import Setting
    from router_r1.world.config import PolicySize

    folder = tmp_path_factory.mktemp("policy")
    create_policy(Setting(pool=embedded_pool), PolicySize(), seed=0, folder=folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(policy_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(policy_folder)


@pytest.fixture(scope="session")
def make_tokenizer(policy_folder: Path) -> MakeTokenizer:
    """See :func:`tests.templates.tokenizer_maker`; of the world's tokenizer."""
    from tests.templates import tokenizer_maker

    return tokenizer_maker(policy_folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: order_of(item.path))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SuiteScheduling:
    return SuiteScheduling(config, log)
