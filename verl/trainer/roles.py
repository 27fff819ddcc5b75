"""Which models a run has, by its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from verl.algorithms import find_algorithm
from verl.config.ppo import PPOConfig


@dataclass(frozen=True)
class Roles:
    """What a configuration needs: which models, and groups of samples.

    ``reference`` says whether its log-probs are needed, ``reference_worker`` whether a model of its
    own gives them: a policy with adapters gives them without these.
    """

    critic: bool
    reference: bool
    reference_worker: bool
    kl_in_reward: bool
    groups: bool

    @classmethod
    def of(cls, config: PPOConfig) -> Roles:
        """What the algorithm needs; a KL needs a reference, unless its coefficient is 0."""
        settings = config.algorithm
        algorithm = find_algorithm(settings.adv_estimator)
        in_reward = bool(settings.use_kl_in_reward) and settings.kl_ctrl.kl_coef != 0
        policy = config.actor_rollout_ref
        reference = in_reward or policy.actor.has_kl_loss
        return cls(
            critic=algorithm.needs_critic,
            reference=reference,
            reference_worker=reference and not policy.model.lora.rank,
            kl_in_reward=in_reward,
            groups=algorithm.needs_groups or settings.filter_groups.enable,
        )
