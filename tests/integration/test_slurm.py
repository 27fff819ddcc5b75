"""scripts/slurm.sh over an allocation of two nodes, both of them this machine, with real Ray."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands import ROOT, Command, start

JOB = f"test{os.getpid()}"
# Without its options, srun runs the command here.
SRUN = """#!/bin/bash
echo "$*" >> {log}
while [[ $1 == --* ]]; do shift; done
{run}
"""
TRAIN = """
import os, sys, ray
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
alive = [node for node in ray.nodes() if node["Alive"]]
sys.stdout.write(f"trained on {len(alive)} nodes, CPU={ray.cluster_resources()['CPU']:g}: ")
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy whose set-up is done and whose training only tells what it was given."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").write_text("exit 0\n")
    for name in (".venv", ".venv-cpu"):
        (tmp_path / name).symlink_to(sys.prefix)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "train.sh").write_text(f'{sys.executable} train.py && echo "$@"\n')
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "scontrol").write_text("#!/bin/sh\nprintf 'node1\\nnode2\\n'\n")
    (tools / "scontrol").chmod(0o755)
    yield tmp_path
    shutil.rmtree(f"/tmp/ray-{JOB}", ignore_errors=True)


def submit(project: Path, run: str, *overrides: str, **environment: str) -> Command:
    srun = project / "tools" / "srun"
    srun.write_text(SRUN.format(log=project / "srun.log", run=run))
    srun.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    command = start(
        *("bash", str(project / "scripts" / "slurm.sh"), *overrides),
        SLURM_JOB_ID=JOB,
        SLURM_SUBMIT_DIR=str(project),
        SLURM_JOB_NUM_NODES="2",
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_CPUS_ON_NODE="3",
        ROUTER_R1_RAY_PORT=str(port),
        PATH=f"{project / 'tools'}:/usr/bin:/bin",
        **environment,
    )
    command.finish()
    return command


def test_all_nodes_train_and_all_of_ray_ends(project: Path) -> None:
    job = submit(project, 'exec "$@"', "cost_coe=0.9", SLURM_NTASKS_PER_NODE="2")
    assert job.process.returncode == 0, job.output
    expected = "trained on 2 nodes, CPU=6: trainer.nnodes=2 "
    assert f"{expected}trainer.n_gpus_per_node=2 cost_coe=0.9\n" in job.output
    assert job.survivors() == []


def test_a_head_that_does_not_start_ends_the_job(project: Path) -> None:
    run = '[[ $1 == */ray ]] && exec sleep 600; exec "$@"'
    job = submit(project, run, SLURM_GPUS_PER_NODE="h100:4", ROUTER_R1_JOIN_TIMEOUT="2")
    assert job.process.returncode == 1, job.output
    assert "did not start within 2 s" in job.output
    assert "trained on" not in job.output
    calls = (project / "srun.log").read_text()
    assert "--nodelist=node1" in calls
    assert "--head" in calls
    assert "--num-gpus=4" in calls
    assert job.survivors() == []


def test_told_to_end_it_tells_training_and_waits_until_that_has_saved(project: Path) -> None:
    """As Slurm does before it preempts a job: SIGUSR1 to the script alone."""
    (project / "train.sh").write_text(
        "trap 'sleep 1; echo saved; exit 75' USR1\n"
        "echo trains; kill -USR1 $PPID; while true; do sleep 0.1; done\n"
    )
    job = submit(project, 'exec "$@"', SLURM_NTASKS_PER_NODE="1")
    assert job.process.returncode == 75, job.output
    assert "saved" in job.output
    assert job.survivors() == []


def test_outside_of_slurm_it_says_how_to_start(project: Path) -> None:
    job = start("bash", str(project / "scripts" / "slurm.sh"), SLURM_JOB_ID="")
    assert job.finish() == 1
    assert "sbatch scripts/slurm.sh" in job.output
