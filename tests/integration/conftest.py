"""Fixtures of the tests with real processes. As in tests/conftest.py, what takes seconds to import
is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router_r1.pool.config import PoolConfig
from router_r1.world.simulated_llm import World
from router_r1.world.simulated_pool import reachable_pool
from tests.integration.chromium import chromium, chromium_path
from tests.integration.commands import POLICY, SMALL, Command, start
from verl.config.ppo import RayConfig

if TYPE_CHECKING:
    from router_r1.inference.router import Router


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Real Ray, once for all tests."""
    from verl.trainer.cluster import ray_cluster

    with ray_cluster(RayConfig(num_cpus=4), num_ranks=2):
        yield


@pytest.fixture(scope="session")
def devtools() -> Iterator[str]:
    """Address of a running Chromium."""
    if chromium_path() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with chromium() as address:
        yield address


@pytest.fixture(scope="session")
def served_pool(embedded_pool: PoolConfig) -> Iterator[PoolConfig]:
    """The embedded pool behind its real HTTP server, answering without delay."""
    pool = replace(embedded_pool, request_timeout_s=2.0, retry_backoff_s=0.01)
    with reachable_pool(pool, time_scale=0.0) as served:
        yield served


@pytest.fixture(scope="session")
def router(cold_start_folder: Path, served_pool: PoolConfig) -> Iterator[Router]:
    """A router that knows the format, on the one vLLM engine of all serving tests."""
    from router_r1.inference.arguments import RouterArguments
    from router_r1.inference.router import open_router
    from router_r1.inference.settings import resolve
    from tests.integration.serving import POOL_KEY

    arguments = RouterArguments(
        model_path=str(cold_start_folder), pool="embedded", api_key=POOL_KEY
    )
    pool = replace(served_pool, request_timeout_s=1.0, max_retries=0)
    with open_router(replace(resolve(arguments), pool=pool)) as router:
        yield router


@pytest.fixture(scope="session")
def told_router(router: Router) -> Iterator[Router]:
    """The same policy on the same engine, told in each prompt what cost counts: 0.3, if a question
    does not say it. It has not learned what that means."""
    from tests.integration.serving import told

    with told(router, cost_coe=0.3) as one:
        yield one


@pytest.fixture(scope="session")
def questions(world: World) -> list[str]:
    """Questions of the embedded world's test split."""
    return [question.text for question in world.knowledge.questions("test")[:64]]


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Path]:
    """``bash train.sh`` with three small steps, finished; and the folder it wrote."""
    folder = tmp_path_factory.mktemp("run")
    command = start(
        *("bash", "train.sh", *SMALL, f"trainer.default_local_dir={folder}"),
        *(f"world.folder={folder}/world", "trainer.total_training_steps=3"),
        "trainer.logger=[console,jsonl,tensorboard,wandb]",
        *("pool.recording.mode=record", f"pool.recording.path={folder}/calls.sqlite"),
        "api_key=sk-planted-on-the-command-line",
        ROUTER_R1_API_KEY="sk-planted-in-the-environment",
        CUDA_VISIBLE_DEVICES="",
        VLLM_CACHE_ROOT=str(folder / "vllm_cache"),
    )
    command.finish()
    return command, folder


@pytest.fixture(scope="session")
def cold_policy(small_run: tuple[Command, Path]) -> Path:
    """The policy that the small run's cold start left in its cache."""
    command, _ = small_run
    assert (POLICY / "config.json").is_file(), command.output
    return POLICY


@pytest.fixture(scope="session")
def cold_start_folder(request: pytest.FixtureRequest) -> Path:
    """A policy that knows the format: the cache's if it is of today's code, else the one a run
    makes."""
    from router_r1.world.cold_start.training import is_made
    from verl.trainer.launch import load_task_config

    _, config = load_task_config(["recipe=quickstart", *SMALL])
    if not is_made(config.cold_start, config.setting):
        request.getfixturevalue("cold_policy")
    return POLICY
