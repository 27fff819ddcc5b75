"""How long a run is: steps, trajectories, validations."""

from __future__ import annotations

from dataclasses import dataclass

from verl.algorithms import find_algorithm
from verl.config.ppo import PPOConfig


@dataclass(frozen=True)
class PlannedRun:
    """What a run does; None is not known, for want of the data files.

    Attributes:
        steps: training steps.
        training: trajectories of all steps, greedy ones that an algorithm compares with among
            them; what dynamic sampling rolls out besides is not known.
        validations: rounds of validation.
        validation: trajectories of all rounds.
    """

    steps: int | None
    training: int | None
    validations: int | None
    validation: int | None

    @classmethod
    def of(
        cls, config: PPOConfig, train_rows: int | None, validation_rows: int | None
    ) -> PlannedRun:
        """Of a run on files with so many rows; None where they cannot be read."""
        trainer, batch = config.trainer, config.data.train_batch_size
        steps: int | None = trainer.total_training_steps
        if trainer.val_only:
            steps = 0
        elif steps is None and train_rows is not None:
            steps = trainer.total_epochs * (train_rows // batch)
        if steps is None:
            return cls(None, None, None, None)
        rounds = _validations(config, steps)
        greedy = find_algorithm(config.algorithm.adv_estimator).needs_greedy_baseline
        samples = config.actor_rollout_ref.rollout.n_agent + greedy
        return cls(
            steps=steps,
            training=steps * batch * samples,
            validations=rounds,
            validation=None if validation_rows is None else rounds * validation_rows,
        )


def _validations(config: PPOConfig, steps: int) -> int:
    """Before training, every ``test_freq`` steps, and at the end."""
    trainer = config.trainer
    if trainer.val_only:
        return 1
    regular = steps // trainer.test_freq if trainer.test_freq > 0 else 0
    at_the_end = trainer.test_freq <= 0 or steps % trainer.test_freq > 0
    return trainer.val_before_train + regular + at_the_end
