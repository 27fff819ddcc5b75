"""Hours that ``--check`` foretells."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest

from benchmarks.simulated_scaling import measured_rates
from verl.config.ppo import PPOConfig
from verl.forecast import OutsideCalls, PlannedRun, Work
from verl.trainer.check.duration import duration_line
from verl.trainer.check.gpu_rates import Card, gpu_rates
from verl.trainer.check.models import RoleModel, load_models
from verl.trainer.launch import load_task_config
from verl.trainer.machine import Gpu, Machine
from verl.utils.checklist import CheckLine, Verdict

USE = {
    "context": 1000.0,
    "max_sequences": 256,
    "graphs": False,
    "offloads": False,
    "sleeps": True,
}
PLAN = PlannedRun(steps=100, training=6400, validations=3, validation=600)
H100 = "NVIDIA H100 80GB HBM3"


@functools.cache
def load(*overrides: str) -> tuple[PPOConfig, list[RoleModel]]:
    config: PPOConfig = load_task_config(["recipe=paper_qwen", *overrides])[1]
    return config, load_models(config)


def machine(name: str) -> Machine:
    return Machine(described=False, gpus=(Gpu(name, 80e9),) * 8, ram_bytes=None)


def work(trajectories: int, at_once: int = 192) -> Work:
    """Two calls a trajectory, of which so many are served at once."""
    calls = OutsideCalls(each=2.0, median_s=1.5, p99_s=10.0, at_once=at_once)
    return Work(trajectories, calls, prompt_tokens=500, turn_tokens=150, observation_tokens=200)


def line(*overrides: str, name: str = H100, plan: PlannedRun = PLAN) -> CheckLine:
    config, models = load(*overrides)
    found = duration_line(config, models, machine(name), plan, work)
    assert found is not None
    return found


def numbers(found: CheckLine) -> tuple[float, float, float]:
    """Hours, seconds of a step, seconds of a validation."""
    assert found.verdict is Verdict.OK
    told = re.match(
        r"about ([\d.]+).*100 steps of ([\d,]+) s.*3 validations of ([\d,]+)", found.found
    )
    assert told, found.found
    hours, step, validation = (float(group.replace(",", "")) for group in told.groups())
    return hours, step, validation


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (H100, "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA A40", "A40"),
    ],
)
def test_a_card_is_known_by_the_drivers_name(name: str, known: str) -> None:
    card = Card.of(name)
    assert card is not None
    assert card.name == known


def test_a_card_that_is_not_listed_has_no_rates() -> None:
    assert Card.of("Tesla T4") is None
    assert Card.of("NVIDIA RTX A4000") is None, "it is no A40"
    found = line(name="Tesla T4")
    assert found.verdict is Verdict.UNKNOWN
    assert "Tesla T4" in found.found


def test_rates_at_the_sizes_that_were_measured_are_the_measured_ones() -> None:
    card = Card.of(H100)
    assert card is not None
    shape = load()[1][0].shape
    for parameters, scored, updated in ((0.494e9, 109_462, 34_655), (3.086e9, 53_713, 13_735)):
        rates = gpu_rates(card, replace(shape, parameters=int(parameters)), **USE)
        assert rates.scoring_tokens_per_s == pytest.approx(scored, rel=1e-3)
        assert rates.update_tokens_per_s == pytest.approx(updated, rel=1e-3)
    between = gpu_rates(card, replace(shape, parameters=int(1.5e9)), **USE)
    assert 13_735 < between.update_tokens_per_s < 34_655
    seven = gpu_rates(card, replace(shape, parameters=int(2 * 3.086e9)), **USE)
    assert seven.update_tokens_per_s == pytest.approx(13_735 / 2, rel=1e-3)
    tiny = gpu_rates(card, replace(shape, parameters=1_000_000), **USE)
    assert tiny.update_tokens_per_s == 34_655, "a pass waits for the host then"


def test_rates_of_an_h100_are_those_that_the_benchmarks_read_from_its_file() -> None:
    card = Card.of(H100)
    assert card is not None
    found, measured = (
        gpu_rates(card, load()[1][0].shape, **(USE | {"context": 1300})),
        measured_rates(),
    )
    for name, value in vars(measured).items():
        assert getattr(found, name) == pytest.approx(value, rel=0.05), name


def test_a_slower_card_takes_longer_in_every_part() -> None:
    shape = load()[1][0].shape
    fast, slow = (gpu_rates(card, shape, **USE) for card in map(Card.of, (H100, "A40")) if card)
    assert slow.scoring_tokens_per_s < fast.scoring_tokens_per_s
    assert slow.update_tokens_per_s < fast.update_tokens_per_s
    assert slow.decode_s(64) > fast.decode_s(64)


def test_hours_are_those_of_the_steps_and_of_the_validations() -> None:
    hours, step, validation = numbers(line())
    assert hours == pytest.approx((100 * step + 3 * validation) / 3600, abs=0.06)


def test_what_makes_a_run_faster_makes_it_shorter() -> None:
    two, eight = (line(f"trainer.n_gpus_per_node={n}") for n in (2, 8))
    assert numbers(eight)[1] < numbers(two)[1]
    offload = "actor_rollout_ref.actor.fsdp_config"
    kept = line(f"{offload}.param_offload=false", f"{offload}.optimizer_offload=false")
    assert numbers(kept)[1] < numbers(line())[1]
    overlapped = line(
        "trainer.async_level=1",
        "algorithm.rollout_correction.level=token",
        "actor_rollout_ref.rollout.free_cache_engine=false",
    )
    assert numbers(overlapped)[1] < numbers(line())[1]


def test_a_quota_that_is_too_small_is_what_a_step_waits_for() -> None:
    assert "for the slowest calls" in line().found
    plan = replace(PLAN, training=100 * 4096)
    found = duration_line(*load(), machine(H100), plan, lambda n: work(n, at_once=6))
    assert found is not None
    assert "for the quota" in found.found


def test_what_is_not_known_is_said() -> None:
    unknown = PlannedRun(None, None, None, None)
    assert line(plan=unknown).verdict is Verdict.UNKNOWN
    assert "validations not counted" in line(plan=replace(PLAN, validation=None)).found
    config, models = load()
    assert duration_line(config, models, machine(H100), PLAN, lambda _: None) is None
    bare = Machine(described=False, gpus=(), ram_bytes=None)
    asked = duration_line(config, models, bare, PLAN, work)
    assert asked is not None
    assert asked.verdict is Verdict.UNKNOWN
    described = Machine.parse("4x80")
    told = duration_line(config, models, described, PLAN, work)
    assert told is not None
    assert "as H100s" in told.found
