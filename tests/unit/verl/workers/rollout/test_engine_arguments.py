"""What vLLM is started with."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from verl.config.rollout import RolloutConfig
from verl.workers.rollout.vllm_replica import ReplicaSettings, engine_arguments


@pytest.fixture
def cpu(policy_folder: Path) -> ReplicaSettings:
    return ReplicaSettings.from_config(
        RolloutConfig(), str(policy_folder), "cpu", 4096, seed=0, sleep=False
    )


@pytest.fixture
def cuda(policy_folder: Path) -> ReplicaSettings:
    return ReplicaSettings.from_config(
        RolloutConfig(), str(policy_folder), "cuda", 4096, seed=0, sleep=True
    )


def test_tensor_parallel_ranks_are_processes_of_the_engine(cuda: ReplicaSettings) -> None:
    """Left to itself, vLLM asks Ray for GPUs when it runs in an actor, and waits for ever."""
    two = RolloutConfig(tensor_model_parallel_size=2)
    parallel = engine_arguments(replace(cuda, config=two))
    assert parallel["distributed_executor_backend"] == "mp"
    assert parallel["tensor_parallel_size"] == 2
    assert "distributed_executor_backend" not in engine_arguments(cuda)


@pytest.mark.parametrize("max_model_len", [128, 4096, 40000])
@pytest.mark.parametrize("max_num_seqs", [1, 256])
def test_on_cpu_a_step_has_room_for_any_prefill(
    cpu: ReplicaSettings, cuda: ReplicaSettings, max_model_len: int, max_num_seqs: int
) -> None:
    config = RolloutConfig(max_num_seqs=max_num_seqs)
    arguments = engine_arguments(replace(cpu, max_model_len=max_model_len, config=config))
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["max_num_batched_tokens"] >= max(max_model_len, max_num_seqs)
    assert arguments["max_num_batched_tokens"] <= max(16384, max_model_len), "memory stays bounded"
    assert "enable_chunked_prefill" not in engine_arguments(cuda)


def in_a_process(script: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_WORKER_MULTIPROC_METHOD"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_on_cuda_vllm_spawns_its_processes(policy_folder: Path) -> None:
    """A fork of a process that has asked torch for GPUs cannot use them; without a model it goes no
    further."""
    method = in_a_process(
        f"""
        from dataclasses import replace
        from verl.config.rollout import RolloutConfig
        from verl.workers.rollout.errors import RolloutEngineError
        from verl.workers.rollout.vllm_engine import VLLMEngine
        from verl.workers.rollout.vllm_replica import ReplicaSettings

        policy = {str(policy_folder)!r}
        settings = ReplicaSettings.from_config(RolloutConfig(), policy, "cuda", 128, 0, False)
        try:
            VLLMEngine(replace(settings, model_path="/no/such/model"))
        except RolloutEngineError:
            from vllm.utils.system_utils import get_mp_context

            print(get_mp_context().get_start_method())
        """
    )
    assert method == "spawn"


def test_spawned_processes_do_not_see_ctrl_c() -> None:
    """Also the first: starting it unblocks SIGINT on the way."""
    blocked = in_a_process(
        """
        import signal, subprocess, sys
        from multiprocessing import resource_tracker
        from verl.utils.ctrl_c import sigint_blocked

        with sigint_blocked():
            resource_tracker.ensure_running()  # as a spawned process does first
            child = "import signal; print(signal.SIGINT in signal.pthread_sigmask(0, ()))"
            print(subprocess.run([sys.executable, "-c", child], stdout=-1, text=True).stdout)
        """
    )
    assert blocked == "True"
