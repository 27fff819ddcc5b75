"""Which prompts a step gets while others are still under way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl.config.model import ActorConfig, CriticConfig
from verl.config.ppo import ActorRolloutRefConfig, DataConfig, PPOConfig, TrainerConfig
from verl.config.rollout import RolloutConfig
from verl.interfaces import RolloutOptions, RolloutRequest
from verl.trainer.interruption import StopRequestedError
from verl.trainer.ppo.prompts import PromptRequests, SampledPrompts
from verl.trainer.ppo.prompts_under_way import PromptsUnderWay
from verl.trajectory import AgentRecord, Segment, SegmentKind, Trajectory
from verl.utils.dataset import PromptDataset

PER_STEP = 4
ROWS = 64
STEPS = 8


class Source:
    """Rollouts end when the test says so."""

    def __init__(self) -> None:
        self.under_way: dict[int, tuple[list[RolloutRequest], Future[list[Trajectory]]]] = {}
        self.begun: list[int] = []
        self.when_waited_for: Callable[[], None] = lambda: None

    def start(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions, on_finished: Any = None
    ) -> Future[list[Trajectory]]:
        del on_finished
        assert options.temperature == 1.0
        row = int(requests[0].row["number"])
        assert [request.sample_index for request in requests] == [0, 1]
        self.begun.append(row)
        future: Future[list[Trajectory]] = Future()
        self.under_way[row] = (list(requests), future)
        return future

    def rollout(
        self, requests: Sequence[RolloutRequest], options: RolloutOptions, on_finished: Any = None
    ) -> list[Trajectory]:
        return self.start(requests, options, on_finished).result()

    def end(self, *rows: int) -> None:
        for row in rows:
            requests, future = self.under_way.pop(row)
            future.set_result([trajectory(request.uid) for request in requests])

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Around the waiting: by then the step has begun all that it will."""
        self.when_waited_for()
        yield


def trajectory(uid: str) -> Trajectory:
    segments = [Segment(SegmentKind.PROMPT, (1,)), Segment(SegmentKind.ACTION, (2,), (-1.0,))]
    return Trajectory(uid, segments, record=AgentRecord())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PromptDataset:
    path = tmp_path_factory.mktemp("rows") / "train.parquet"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {i}"}],
            "data_source": "world",
            "reward_model": {"style": "rule", "ground_truth": {"target": ["x"]}},
            "number": i,
        }
        for i in range(ROWS)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return PromptDataset([str(path)], "prompt")


def make(dataset: PromptDataset, source: Source) -> PromptsUnderWay:
    config = PPOConfig(
        data=DataConfig(
            train_files=["t"],
            val_files=["v"],
            train_batch_size=PER_STEP,
            shuffle_train_dataloader=False,
        ),
        actor_rollout_ref=ActorRolloutRefConfig(
            actor=ActorConfig(ppo_mini_batch_size=8), rollout=RolloutConfig(n_agent=2)
        ),
        critic=CriticConfig(ppo_mini_batch_size=8),
        trainer=TrainerConfig(device="cpu"),
    )
    requests = PromptRequests(config, dataset)
    return PromptsUnderWay(requests, source, PER_STEP, STEPS, source.abandoning)


def rows_of(sampled: SampledPrompts) -> list[int]:
    """Of its prompts, each of which came with both of its samples."""
    assert [r.uid for r in sampled.requests] == [t.uid for t in sampled.trajectories]
    numbers = [int(request.row["number"]) for request in sampled.requests]
    assert numbers[::2] == numbers[1::2]
    return numbers[::2]


def later(*rows: int, of: Source) -> Callable[[], None]:
    """Ends them on another thread, while the step waits."""
    return lambda: threading.Timer(0.01, of.end, rows).start()


def test_a_step_takes_what_has_ended_and_leaves_the_slow_ones_to_the_next(
    dataset: PromptDataset,
) -> None:
    source = Source()
    prompts = make(dataset, source)
    source.when_waited_for = later(0, 2, 5, 7, of=source)
    assert rows_of(prompts.sample(1, PER_STEP)) == [0, 2, 5, 7]
    assert source.begun == list(range(8)), "a step's prompts are under way beside training"
    source.end(6, 4)
    source.when_waited_for = later(10, 9, of=source)
    assert rows_of(prompts.sample(2, PER_STEP)) == [4, 6, 9, 10]
    assert prompts.metrics() == {
        "rollout/steps_late/mean": pytest.approx(2 / 8),
        "rollout/steps_late/max": 1.0,
        "rollout/prompts_under_way": 4.0,
    }


def test_the_slowest_is_waited_for_two_steps_after_it_was_begun(dataset: PromptDataset) -> None:
    source = Source()
    prompts = make(dataset, source)
    for step, ended in ((1, (1, 2, 3, 4)), (2, (5, 6, 7, 8))):
        source.when_waited_for = later(*ended, of=source)
        assert 0 not in rows_of(prompts.sample(step, PER_STEP))
    source.end(9, 10, 11)
    source.when_waited_for = lambda: (source.end(12), later(0, of=source)())
    assert rows_of(prompts.sample(3, PER_STEP)) == [0, 9, 10, 11]


def test_nothing_is_begun_that_no_step_takes(dataset: PromptDataset) -> None:
    source = Source()
    source.when_waited_for = lambda: source.end(*list(source.under_way))
    prompts = make(dataset, source)
    for step in range(1, STEPS + 1):
        prompts.sample(step, PER_STEP)
    assert source.begun == list(range(STEPS * PER_STEP))
    assert source.under_way == {}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_row_is_given_once_and_in_time(dataset: PromptDataset, data: st.DataObject) -> None:
    """Whatever the order in which rollouts end."""
    source = Source()
    prompts = make(dataset, source)
    given_rows: list[int] = []
    begun_by: dict[int, int] = {}

    def end_some() -> None:
        for row in source.begun:
            begun_by.setdefault(row, step)
        order = data.draw(st.permutations(sorted(source.under_way)))
        done_before = len(source.begun) - len(source.under_way) - len(given_rows)
        overdue = [row for row in order if begun_by[row] <= step - 2]
        source.end(*dict.fromkeys(overdue + order[: PER_STEP - done_before]))

    source.when_waited_for = end_some
    for step in range(1, STEPS + 1):
        rows = rows_of(prompts.sample(step, PER_STEP))
        assert len(rows) == PER_STEP
        assert all(step - begun_by[row] <= 2 for row in rows)
        given_rows += rows
    assert sorted(given_rows) == list(range(STEPS * PER_STEP))


def test_a_checkpoint_gives_rows_under_way_back(dataset: PromptDataset) -> None:
    source = Source()
    prompts = make(dataset, source)
    source.when_waited_for = lambda: source.end(1, 3, 6, 7)
    prompts.sample(1, PER_STEP)
    state = prompts.state_dict()
    assert state == {"taken": 8, "returned": [0, 2, 4, 5]}
    prompts.close()
    assert all(future.cancelled() for _, future in source.under_way.values())

    again = Source()
    resumed = make(dataset, again)
    resumed.load_state_dict(state)
    again.when_waited_for = lambda: again.end(0, 2, 4, 5)
    assert rows_of(resumed.sample(2, PER_STEP)) == [0, 2, 4, 5]
    assert again.begun == [0, 2, 4, 5, 8, 9, 10, 11]


def test_a_signal_ends_the_waiting_and_loses_no_row(dataset: PromptDataset) -> None:
    def interrupt() -> None:
        raise StopRequestedError("SIGTERM")

    source = Source()
    source.when_waited_for = interrupt
    prompts = make(dataset, source)
    with pytest.raises(StopRequestedError):
        prompts.sample(1, PER_STEP)
    assert prompts.state_dict()["returned"] == list(range(8))


def test_an_engine_that_is_gone_is_the_step_s_error(dataset: PromptDataset) -> None:
    source = Source()
    prompts = make(dataset, source)

    def lose() -> None:
        for _, future in source.under_way.values():
            future.set_exception(RuntimeError("the engine is gone"))

    source.when_waited_for = lambda: threading.Timer(0.01, lose).start()
    with pytest.raises(RuntimeError, match="the engine is gone"):
        prompts.sample(1, PER_STEP)
