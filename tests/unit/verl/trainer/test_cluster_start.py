"""Ray's own start, where the machine is too busy for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray

from verl.config.ppo import RayConfig
from verl.trainer.cluster import ClusterError, ray_cluster

# Word for word Ray's.
LATE = "The current node timed out during startup. This could happen because some of the raylet"


def failing(*errors: Exception) -> tuple[Callable[..., None], list[Any]]:
    """Ray's start, which fails in turn; and its calls."""
    calls: list[Any] = []

    def init(**options: Any) -> None:
        calls.append(options)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]

    return init, calls


@pytest.fixture(autouse=True)
def own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_a_start_that_was_late_is_tried_once_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    init, calls = failing(Exception(LATE))
    monkeypatch.setattr(ray, "init", init)
    with ray_cluster(RayConfig(), num_ranks=3):
        assert len(calls) == 2
        assert calls[0] == calls[1]
    assert "started once more" in caplog.text


def test_a_start_that_is_late_again_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    init, calls = failing(Exception(LATE), Exception(LATE))
    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ClusterError, match=r"within 30 s, twice \(load \d+ on \d+ cores"),
        ray_cluster(RayConfig(), num_ranks=1),
    ):
        pass
    assert len(calls) == 2


def test_what_does_not_start_is_told_in_ray_s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    init, calls = failing(ValueError("no port"))
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(ValueError, match="no port"), ray_cluster(RayConfig(), num_ranks=1):
        pass
    assert len(calls) == 1
