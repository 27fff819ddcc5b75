"""Config of the algorithm: advantages, the in-reward KL, and which trajectories count how much."""

from __future__ import annotations

from dataclasses import dataclass, field

from verl.algorithms import algorithm_names
from verl.config.model import KL_ESTIMATORS
from verl.config.validation import POSITIVE, SHARE, ConfigError, Section, one_of, require_choice


@dataclass
class KLControlConfig(Section, prefix="algorithm.kl_ctrl."):
    """In-reward KL coefficient: "fixed", or "adaptive" towards ``target_kl``."""

    type: str = field(default="fixed", metadata=one_of("fixed", "adaptive"))
    kl_coef: float = 0.001
    target_kl: float = 0.1
    horizon: int = 10000


@dataclass
class FilterGroupsConfig(Section, prefix="algorithm.filter_groups."):
    """Dynamic sampling (Yu et al. 2025, "DAPO", section 3.2): prompts whose samples all score the
    same teach nothing; they are dropped and others rolled out in their place.

    Attributes:
        metric: what has to differ between a prompt's samples: "score", which is the reward, or a
            metric that the reward function reports.
        max_num_gen_batches: rollouts of a step, the first among them. After so many the step goes
            on with the prompts it has.
    """

    enable: bool = False
    metric: str = "score"
    max_num_gen_batches: int = field(default=4, metadata=POSITIVE)


@dataclass
class RolloutCorrectionConfig(Section, prefix="algorithm.rollout_correction."):
    """Importance weights between engine and trainer (:mod:`verl.algorithms.rollout_correction`).

    Attributes:
        level: ratio of each "token", or of the whole "sequence"; null for no weights.
        mode: "truncate" at ``upper``, or "mask" what is not between ``lower`` and ``upper``.
        upper: >= 1.
        lower: in [0, 1]; for "mask" alone.
    """

    level: str | None = field(default=None, metadata=one_of("token", "sequence"))
    mode: str = field(default="truncate", metadata=one_of("truncate", "mask"))
    upper: float = 2.0
    lower: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.lower <= 1 <= self.upper):
            raise ConfigError(
                "algorithm.rollout_correction wants 0 <= lower <= 1 <= upper, got "
                f"lower={self.lower} and upper={self.upper}"
            )


@dataclass
class AlgorithmConfig(Section, prefix="algorithm."):
    """The algorithm, its advantages and the in-reward KL.

    Attributes:
        adv_estimator: a file of :mod:`verl.algorithms`, such as gae or grpo.
        gamma: discount from one sampled token to the next (gae, reinforce_plus_plus), in [0, 1].
        lam: of generalised advantage estimation, in [0, 1].
        use_kl_in_reward: None leaves it to the algorithm, and means no where the actor uses a KL
            loss.
        mask_truncated: trajectories that ended for want of room stay out of the update; they count
            in advantages, as baselines of others.
        rollout_log_probs_as_old: take the engine's log-probs for those of the policy before the
            update and spare the pass that computes them; wants one optimizer step a rollout.
    """

    adv_estimator: str = "gae"
    gamma: float = field(default=1.0, metadata=SHARE)
    lam: float = field(default=1.0, metadata=SHARE)
    use_kl_in_reward: bool | None = None
    kl_penalty: str = field(default="kl", metadata=one_of(*KL_ESTIMATORS))
    kl_ctrl: KLControlConfig = field(default_factory=KLControlConfig)
    filter_groups: FilterGroupsConfig = field(default_factory=FilterGroupsConfig)
    mask_truncated: bool = False
    rollout_correction: RolloutCorrectionConfig = field(default_factory=RolloutCorrectionConfig)
    rollout_log_probs_as_old: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("algorithm.adv_estimator", self.adv_estimator, algorithm_names())
        if self.rollout_log_probs_as_old and self.rollout_correction.level is not None:
            raise ConfigError(
                "algorithm.rollout_correction does nothing with "
                "algorithm.rollout_log_probs_as_old=true, whose ratio is taken to the engine "
                "already: set algorithm.rollout_correction.level=null"
            )
