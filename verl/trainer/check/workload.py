"""How many tokens go through a model at once.

Guarantees: upper bounds; every trajectory is taken to be as long as the configuration allows.
"""

from __future__ import annotations

from dataclasses import dataclass

from verl.config.model import UpdateConfig
from verl.config.ppo import PPOConfig


@dataclass(frozen=True)
class Workload:
    """Largest forward passes of a role.

    Attributes:
        update_tokens: in the update, per rank.
        scoring_tokens: without gradients, per rank.
        key: what lowers both.
    """

    update_tokens: int
    scoring_tokens: int
    key: str

    @classmethod
    def of(cls, config: PPOConfig, role: UpdateConfig, prefix: str) -> Workload:
        """Of the actor's or critic's config, which lies under ``prefix`` (ends with a dot)."""
        ranks = config.trainer.ranks
        samples = config.data.train_batch_size * config.actor_rollout_ref.rollout.n_agent
        longest = config.data.max_prompt_length

        def tokens(samples_per_rank: int) -> int:
            if role.use_dynamic_bsz:
                limit = max(longest, role.ppo_max_token_len_per_gpu)
                return min(limit, samples_per_rank * longest)
            return min(role.ppo_micro_batch_size, samples_per_rank) * longest

        by_tokens = role.use_dynamic_bsz
        return cls(
            update_tokens=tokens(max(1, role.ppo_mini_batch_size // ranks)),
            scoring_tokens=tokens(-(-samples // ranks)),
            key=prefix + ("ppo_max_token_len_per_gpu" if by_tokens else "ppo_micro_batch_size"),
        )
