"""Every baseline by the name that ``--baselines`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from router_r1.evaluation.baselines.base import Baseline
from router_r1.evaluation.baselines.fixed import BestSingle, HopRouter, RandomRouter, SingleLLM
from router_r1.evaluation.baselines.graph import GraphRouter
from router_r1.evaluation.baselines.learned import (
    FusionRouter,
    carrot_router,
    knn_router,
    mlp_router,
)
from router_r1.evaluation.baselines.retrieval import RetrievalLoop
from verl.config.validation import ConfigError


@dataclass(frozen=True)
class Setting:
    """What baselines are made from.

    Attributes:
        prices: the LLMs that routers choose from, with what tells the cheap from the dear: $ per 1M
            completion tokens, or the mean dollars of recorded answers.
        cost_weights: one CARROT each.
        retriever, reader: the pool member that retrieves, if there is one, and the LLM that reads
            what was retrieved; None for a rule.
        oracles: of the embedded world; none on real data.
    """

    prices: Mapping[str, float]
    seed: int
    cost_weights: Sequence[float]
    retriever: str | None = None
    reader: str | None = None
    oracles: Sequence[HopRouter] = ()

    @property
    def names(self) -> list[str]:
        """Names of the LLMs."""
        return list(self.prices)


# Name to how it is made; one that gives nothing is not to be had in the setting. What each is says
# ``DESCRIPTIONS`` of ``router_r1.evaluation.compare_options``, in the same order.
BASELINES: dict[str, Callable[[Setting], Iterable[Baseline]]] = {
    "random": lambda s: [RandomRouter(s.names, s.seed)],
    "single": lambda s: map(SingleLLM, s.names),
    "best": lambda _: [BestSingle()],
    "cheapest": lambda s: [SingleLLM(min(s.names, key=s.prices.__getitem__), "cheapest")],
    "largest": lambda s: [SingleLLM(max(s.names, key=s.prices.__getitem__), "largest")],
    "knn": lambda _: [knn_router()],
    "mlp": lambda s: [mlp_router(s.seed)],
    "carrot": lambda s: map(carrot_router, s.cost_weights),
    "graph": lambda s: [GraphRouter(s.seed)],
    "fusion": lambda s: [FusionRouter(s.seed)],
    "retrieval": lambda s: [RetrievalLoop(s.retriever, s.reader)] if s.retriever else [],
    "oracle": lambda s: s.oracles,
}


def make_baselines(names: Sequence[str] | None, setting: Setting) -> list[Baseline]:
    """The baselines named, in the registry's order; None makes all that the setting allows.

    Raises:
        ConfigError: for an unknown name, or one that the setting does not allow.
    """
    if unknown := sorted(set(names or ()) - set(BASELINES)):
        raise ConfigError(
            f"no such baseline: {', '.join(unknown)}; choose from {', '.join(BASELINES)}"
        )
    made: list[Baseline] = []
    for name, make in BASELINES.items():
        if names is None or name in names:
            baselines = list(make(setting))
            if names and not baselines:
                needs = "--retriever" if name == "retrieval" else "the embedded world"
                raise ConfigError(f"the baseline {name!r} needs {needs}")
            made += baselines
    return made
