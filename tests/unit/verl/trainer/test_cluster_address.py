"""Which Ray a run means, told from its configuration and environment alone."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from verl.config.ppo import RayConfig
from verl.trainer.check.cluster import joins_cluster
from verl.trainer.cluster import (
    OWN,
    PROJECT_ROOT,
    ClusterError,
    choose_address,
    ray_cluster,
    worker_environment,
)


@pytest.mark.parametrize(
    ("configured", "variable", "address"),
    [
        (None, None, OWN),
        (None, "", OWN),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        (None, "auto", "auto"),
        (None, "local", OWN),
        ("local", "10.0.0.1:6379", OWN),
        ("auto", None, "auto"),
        ("auto", "10.0.0.1:6379", "10.0.0.1:6379"),
        ("10.0.0.2:6379", "10.0.0.1:6379", "10.0.0.2:6379"),
        ("[fe80::1]:6379", None, "[fe80::1]:6379"),
    ],
)
def test_address_and_variable(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, variable: str | None, address: str
) -> None:
    if variable is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert choose_address(configured) == address


def test_joining_by_the_environment_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    caplog.set_level(logging.INFO)
    assert joins_cluster(RayConfig())
    cluster = ray_cluster(RayConfig(), num_ranks=1)
    with pytest.raises(ClusterError, match="no Ray head answers"):
        cluster.__enter__()
    (record,) = caplog.records
    assert "127.0.0.1:9, because RAY_ADDRESS is set (ray.address=local" in record.message


@pytest.mark.parametrize("address", ["http://head:8265", "ray://head:10001", "head", ":1", "a:b"])
def test_what_is_no_address_of_a_head_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS=.*host:port"):
        choose_address(None)


def test_a_head_that_does_not_answer_is_named_at_once() -> None:
    """Ray itself tries for two minutes and then ends the process."""
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        cluster = ray_cluster(RayConfig(address=address), num_ranks=1)
        with pytest.raises(ClusterError, match=f"no Ray head answers at {address}"):
            cluster.__enter__()


def test_workers_get_the_drivers_code_and_library_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "my_agents")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth1")
    monkeypatch.setenv("HF_HOME", "/shared/hub")
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("ROUTER_R1_API_KEY", "sk-planted")
    environment = worker_environment()
    paths = environment["PYTHONPATH"].split(os.pathsep)
    assert paths == [str(PROJECT_ROOT), os.path.abspath("my_agents")]
    assert environment["NCCL_SOCKET_IFNAME"] == "eth1"
    assert environment["HF_HOME"] == "/shared/hub"
    assert "planted" not in str(environment), "Ray shows it to whoever looks at the cluster"
