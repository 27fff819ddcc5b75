"""By what the embedded world's oracle chooses beside the routers of a sweep: what rewarded them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from router_r1.evaluation.comparison import EvaluationFileError, read_json_object
from router_r1.evaluation.viewer.reward_rule import stated_scales
from router_r1.pool.config import PoolConfig
from router_r1.reward.cost import CostScale, RewardScales
from router_r1.world.oracle import Weighing
from verl.trainer.evaluation.score import RESULTS


def stated_weighing(folders: Sequence[Path], pool: PoolConfig) -> Weighing:
    """The unit of cost and the weight of latency that the evaluations state, or the paper's; and
    the scales of cost and latency where they state the same.

    Raises:
        EvaluationFileError: if they state different units or weights.
    """
    stated: dict[tuple[str, float], Path] = {}
    told = [read_json_object(folder / RESULTS) or {} for folder in folders]
    for folder, results in zip(folders, told, strict=True):
        unit, latency_coe = results.get("cost_unit", "completion"), results.get("latency_coe", 0.0)
        stated.setdefault((str(unit), float(latency_coe)), folder)
    if len(stated) > 1:
        differing = "; ".join(
            f"{folder}: reward.cost_unit={unit}, reward.latency_coe={latency_coe:g}"
            for (unit, latency_coe), folder in stated.items()
        )
        raise EvaluationFileError(
            f"the routers of the sweep were rewarded in different ways ({differing}); compare them "
            "apart"
        )
    unit, latency_coe = next(iter(stated), ("completion", 0.0))
    scales = [stated_scales(results) for results in told]
    shared = RewardScales(_shared(s.cost for s in scales), _shared(s.latency for s in scales))
    return Weighing(shared, pool.prompt_prices() if unit == "dollars" else {}, latency_coe)


def _shared(scales: Iterable[CostScale | None]) -> CostScale | None:
    """The scale that all state; None where one states none or they differ."""
    different = set(scales)
    return different.pop() if len(different) == 1 else None
