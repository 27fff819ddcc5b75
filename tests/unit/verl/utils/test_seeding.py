"""Random streams that go on."""

from __future__ import annotations

import json
import random

import numpy as np
import torch

from verl.utils.seeding import random_state, restore_random_state, seed_everything


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
