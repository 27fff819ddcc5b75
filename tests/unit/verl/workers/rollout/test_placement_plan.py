"""Which ranks an engine lies beside, and the environment of a rank."""

from __future__ import annotations

import pytest

from verl.config.validation import ConfigError
from verl.single_controller.rank_device import RankDevice
from verl.single_controller.worker import RankInfo
from verl.workers.rollout.placement import place_beside

A, B = "a" * 56, "b" * 56  # Ray's node ids
HOSTS = ((A, "host-a"), (B, "host-b"))
TWO_NODES = [RankDevice(*node, gpu) for node in HOSTS for gpu in ("3", "1", "7", "5")]


def test_engines_take_ranks_of_one_node_in_order() -> None:
    places = place_beside(TWO_NODES, num_replicas=-1, tensor_parallel_size=2)
    assert [str(place) for place in places] == [
        *("host-a GPU 3,1", "host-a GPU 7,5"),
        *("host-b GPU 3,1", "host-b GPU 7,5"),
    ]
    assert len(place_beside(TWO_NODES, -1, 1)) == 8
    assert place_beside(TWO_NODES, 3, 2) == places[:3]
    options = places[1].actor_options()
    assert options["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == "7,5"
    assert options["scheduling_strategy"].node_id == A
    assert options["num_gpus"] == 0


def test_ranks_of_a_node_that_do_not_lie_together_share_their_engine() -> None:
    mixed = [RankDevice("a", "a", "0"), RankDevice("b", "b", "0"), RankDevice("a", "a", "1")]
    assert [str(place) for place in place_beside(mixed, -1, 2)] == ["a GPU 0,1"]


@pytest.mark.parametrize(("replicas", "size"), [(9, 1), (5, 2), (1, 8), (-1, 8)])
def test_an_engine_too_many_or_too_large_is_refused(replicas: int, size: int) -> None:
    with pytest.raises(ConfigError, match=r"do not fit beside the trainer's 8 GPU.*num_replicas"):
        place_beside(TWO_NODES, replicas, size)


def test_engines_on_cpu_lie_on_the_node_of_rank_0() -> None:
    ranks = [RankDevice(*node) for node in HOSTS]
    assert [str(place) for place in place_beside(ranks, -1, 1)] == ["host-a"]
    places = place_beside(ranks, 2, 1)
    assert [place.actor_options()["scheduling_strategy"].node_id for place in places] == [A, A]
    assert "runtime_env" not in places[0].actor_options()


def test_local_rank_is_the_index_of_the_gpu_that_a_process_sees() -> None:
    info = RankInfo(5, 8, 1, "cuda", "node", 1234, local_world_size=4)
    on_gpu = info.environment()
    assert (on_gpu["LOCAL_RANK"], on_gpu["LOCAL_WORLD_SIZE"]) == ("0", "1")
    assert (on_gpu["RANK"], on_gpu["WORLD_SIZE"]) == ("5", "8")
    on_cpu = RankInfo(5, 8, 1, "cpu", "node", 1234, local_world_size=4).environment()
    assert (on_cpu["LOCAL_RANK"], on_cpu["LOCAL_WORLD_SIZE"]) == ("1", "4")
