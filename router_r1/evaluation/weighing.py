"""By what the embedded world's oracle chooses beside the routers of a sweep: what rewarded them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from router_r1.evaluation.comparison import EvaluationFileError, read_json_object
from router_r1.pool.config import PoolConfig
from router_r1.world.oracle import Weighing
from verl.trainer.evaluation.score import RESULTS


def stated_weighing(folders: Sequence[Path], pool: PoolConfig) -> Weighing:
    """The unit of cost and the weight of latency that the evaluations state, or the paper's.

    Raises:
        EvaluationFileError: if they state different ones.
    """
    stated: dict[tuple[str, float], Path] = {}
    for folder in folders:
        results = read_json_object(folder / RESULTS) or {}
        unit, latency_coe = results.get("cost_unit", "completion"), results.get("latency_coe", 0.0)
        stated.setdefault((str(unit), float(latency_coe)), folder)
    if len(stated) > 1:
        told = "; ".join(
            f"{folder}: reward.cost_unit={unit}, reward.latency_coe={latency_coe:g}"
            for (unit, latency_coe), folder in stated.items()
        )
        raise EvaluationFileError(
            f"the routers of the sweep were rewarded in different ways ({told}); compare them apart"
        )
    unit, latency_coe = next(iter(stated), ("completion", 0.0))
    prompt_prices = pool.prompt_prices() if unit == "dollars" else {}
    return Weighing(prompt_prices=prompt_prices, latency_coe=latency_coe)
