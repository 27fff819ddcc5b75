"""The loss of an update, written down from the papers' formulas in plain PyTorch, row by row."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch

from verl.config.algorithm import AlgorithmConfig, RolloutCorrectionConfig
from verl.config.model import AGGREGATIONS, ActorConfig

GAMMA, LAM, REWARD_KL = 0.9, 0.8, 0.3
LOW, HIGH, DUAL, HORIZON = 0.1, 0.2, 1.5, 17
UPPER, LOWER = 1.1, 0.9
ADVANTAGES = (
    *("gae", "grpo", "dr_grpo", "rloo"),
    *("reinforce_plus_plus", "reinforce_plus_plus_baseline", "remax"),
)
LOSSES = ("clip", "gspo", "cispo")
CORRECTIONS = ((None, "truncate"), *itertools.product(("token", "sequence"), ("truncate", "mask")))
Columns = dict[str, torch.Tensor]


class Combination(NamedTuple):
    """What an update is made of."""

    estimator: str
    loss: str
    mode: str
    level: str | None
    kind: str

    @property
    def algorithm(self) -> AlgorithmConfig:
        return AlgorithmConfig(
            adv_estimator=self.estimator,
            gamma=GAMMA,
            lam=LAM,
            rollout_correction=RolloutCorrectionConfig(self.level, self.kind, UPPER, LOWER),
        )

    def actor(self, **more: Any) -> ActorConfig:
        return ActorConfig(
            policy_loss=self.loss,
            clip_ratio_low=LOW,
            clip_ratio_high=HIGH,
            clip_ratio_c=DUAL if self.loss == "clip" else None,
            loss_agg_mode=self.mode,
            loss_agg_horizon=HORIZON if self.mode.endswith("norm") else None,
            **{"entropy_coeff": 0.0, **more},
        )


def combinations_of(estimator: str, loss: str) -> list[Combination]:
    """Every aggregation with every correction."""
    return [
        Combination(estimator, loss, mode, *correction)
        for mode, correction in itertools.product(AGGREGATIONS, CORRECTIONS)
    ]


# At most forty lines, so that it can be checked by reading.
def reference_loss(
    c: Columns, x: torch.Tensor, how: Combination, loss_kl: float = 0.0
) -> torch.Tensor:
    estimator, loss, mode, level, kind = how
    rows, old = [m.nonzero().flatten() for m in c["response_mask"]], c["old_log_probs"]
    rewards = c["token_level_scores"] - REWARD_KL * (old - c["ref_log_prob"]) * c["response_mask"]
    score, made, told = rewards.sum(1), [], []
    for i, t in enumerate(rows):
        r, mates = rewards[i, t], score[i // 2 * 2 : i // 2 * 2 + 2]
        value = torch.cat([c["values"][i, t], torch.zeros(1)])
        steps = (torch.arange(len(t)) - torch.arange(len(t))[:, None]).abs()
        forms = {
            "gae": torch.triu((GAMMA * LAM) ** steps) @ (r + GAMMA * value[1:] - value[:-1]),
            "grpo": (score[i] - mates.mean()) / (mates.std() + 1e-6),
            "rloo": 2 * score[i] - mates.sum(),
            "reinforce_plus_plus": torch.triu(GAMMA**steps) @ r,
            "remax": torch.triu(1.0**steps) @ r - c["greedy_scores"][i],
        }
        forms["dr_grpo"] = forms["reinforce_plus_plus_baseline"] = score[i] - mates.mean()
        made.append(forms[estimator].expand(len(t)))
    if estimator in ("gae", "reinforce_plus_plus", "reinforce_plus_plus_baseline"):
        flat = torch.cat(made)
        made = [(a - flat.mean()) / (flat.var() + 1e-8).sqrt() for a in made]
    for a, p, q, b, ref in (
        (made[i], x[i, t], old[i, t], c["rollout_log_probs"][i, t], c["ref_log_prob"][i, t])
        for i, t in enumerate(rows)
        if len(t)
    ):
        s = ((p - q).mean() - p).detach() + p if loss == "gspo" else p - q
        ratio, clipped = s.exp(), s.exp().clamp(1 - LOW, 1 + HIGH)
        token = torch.maximum(-a * ratio, -a * clipped)
        if loss != "gspo":
            dual = torch.where(a < 0, torch.minimum(token, -a * DUAL), token)
            token = dual if loss == "clip" else -clipped.detach() * a * p
        w = (q - b).exp() if level == "token" else (q - b).sum().exp().expand_as(q)
        w = w.clamp(max=UPPER) if kind == "truncate" else w * ((w >= LOWER) & (w <= UPPER))
        told.append((token * w if level else token) + loss_kl * ((ref - p).exp() - (ref - p) - 1))
    count = {"token-mean": len(torch.cat(told)), "seq-mean-token-sum-norm": len(told) * HORIZON}
    per_row = [row.mean() if mode == "seq-mean-token-mean" else row.sum() for row in told]
    return torch.stack(per_row).sum() / count.get(mode, len(told))
