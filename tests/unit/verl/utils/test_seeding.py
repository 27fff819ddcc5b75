"""Seeds of generations: one each, the same in every process; and streams that go on."""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import torch

from verl.utils.seeding import (
    generation_seed,
    random_state,
    restore_random_state,
    seed_everything,
)


def test_it_is_the_same_on_every_machine() -> None:
    """A literal: Python's own hash would differ from process to process."""
    assert generation_seed(42, "step1-0", 0, 0) == 2600806178846312887


def test_run_prompt_sample_and_turn_each_change_it() -> None:
    runs, prompts = (0, 1, 42), ("step1-0", "step1-1", "step11-0", "val-0", "nq/0")
    seeds = {
        generation_seed(run, uid, sample, turn)
        for run, uid, sample, turn in itertools.product(runs, prompts, range(16), range(5))
    }
    assert len(seeds) == len(runs) * len(prompts) * 16 * 5
    assert all(0 <= seed < 2**63 for seed in seeds), "what vLLM and torch.Generator take"


def test_streams_go_on_where_their_state_was_taken() -> None:
    def draw() -> tuple[float, ...]:
        return (
            random.random(),
            random.gauss(0, 1),
            float(np.random.standard_normal()),
            float(torch.rand(())),
        )

    seed_everything(3)
    draw()
    state = json.loads(json.dumps(random_state()))
    expected = draw(), draw()
    seed_everything(4)
    restore_random_state(state)
    assert (draw(), draw()) == expected
