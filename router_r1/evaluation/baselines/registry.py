"""Every baseline by the name that ``--baselines`` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router_r1.evaluation.baselines.base import Baseline
from router_r1.evaluation.baselines.fixed import RandomRouter, SingleLLM, cheapest, largest
from router_r1.evaluation.baselines.graph import GraphRouter
from router_r1.evaluation.baselines.hops import HopRouter
from router_r1.evaluation.baselines.learned import (
    CarrotRouter,
    FusionRouter,
    KNNRouter,
    MLPRouter,
)
from router_r1.evaluation.baselines.retrieval import RetrievalLoop
from router_r1.pool.config import LLMConfig
from router_r1.world.knowledge import Knowledge
from router_r1.world.oracle import Oracle
from verl.config.validation import ConfigError


@dataclass(frozen=True)
class Setting:
    """What baselines are made from.

    Attributes:
        llms: those that routers choose from.
        seed: of everything drawn.
        cost_weights: one CARROT each.
        retriever: the pool member that retrieves, if there is one.
        reader: the LLM that reads what was retrieved; None for a rule.
        knowledge, oracle: of the embedded world; None on real data.
        oracle_cost_coes: one oracle each.
    """

    llms: Sequence[LLMConfig]
    seed: int
    cost_weights: Sequence[float]
    retriever: str | None = None
    reader: str | None = None
    knowledge: Knowledge | None = None
    oracle: Oracle | None = None
    oracle_cost_coes: Sequence[float] = (0.0,)

    @property
    def names(self) -> list[str]:
        """Names of the LLMs."""
        return [llm.name for llm in self.llms]


def _retrieval(setting: Setting) -> list[Baseline]:
    return [RetrievalLoop(setting.retriever, setting.reader)] if setting.retriever else []


def _oracles(setting: Setting) -> list[Baseline]:
    oracle, knowledge = setting.oracle, setting.knowledge
    if oracle is None or knowledge is None:
        return []

    def at(cost_coe: float) -> HopRouter:
        name = "oracle" if cost_coe == 0 else f"oracle at cost_coe {cost_coe:g}"
        return HopRouter(name, "oracle", knowledge, lambda d: oracle.best_route(d, cost_coe))

    return [at(cost_coe) for cost_coe in setting.oracle_cost_coes]


# Name to how it is made; one that gives nothing is not to be had in the setting. What each is says
# ``DESCRIPTIONS`` of ``router_r1.evaluation.compare_options``, in the same order.
BASELINES: dict[str, Callable[[Setting], list[Baseline]]] = {
    "random": lambda s: [RandomRouter(s.names, s.seed)],
    "single": lambda s: [SingleLLM(name) for name in s.names],
    "cheapest": lambda s: [cheapest(s.llms)],
    "largest": lambda s: [largest(s.llms)],
    "knn": lambda _: [KNNRouter()],
    "mlp": lambda s: [MLPRouter(s.seed)],
    "carrot": lambda s: [CarrotRouter(weight) for weight in s.cost_weights],
    "graph": lambda s: [GraphRouter(s.seed)],
    "fusion": lambda s: [FusionRouter(s.seed)],
    "retrieval": _retrieval,
    "oracle": _oracles,
}


def make_baselines(names: Sequence[str] | None, setting: Setting) -> list[Baseline]:
    """The baselines named, in the registry's order; None makes all that the setting allows.

    Raises:
        ConfigError: for an unknown name, or one that the setting does not allow.
    """
    unknown = sorted(set(names or ()) - set(BASELINES))
    if unknown:
        raise ConfigError(
            f"no such baseline: {', '.join(unknown)}; choose from {', '.join(BASELINES)}"
        )
    made: list[Baseline] = []
    for name, make in BASELINES.items():
        if names is not None and name not in names:
            continue
        baselines = make(setting)
        if names is not None and not baselines:
            needs = "--retriever" if name == "retrieval" else "the embedded world"
            raise ConfigError(f"the baseline {name!r} needs {needs}")
        made += baselines
    return made
