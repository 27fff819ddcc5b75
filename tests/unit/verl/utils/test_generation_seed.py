"""Seeds of generations: one each, the same in every process."""

from __future__ import annotations

import itertools

from verl.utils.generation_seed import generation_seed


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
