"""Figures of the Router-R1 paper, to stand beside ours; none of them was measured here.

Source: Zhang, Feng and You, *Router-R1* (NeurIPS 2025, arXiv 2506.09033); policy
Qwen2.5-3B-Instruct unless a row says otherwise; trained on NQ and HotpotQA; 500 test questions a
benchmark, Bamboogle 125.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Zhang, Feng and You, NeurIPS 2025, arXiv 2506.09033"
BENCHMARKS = (
    "nq",
    "triviaqa",
    "popqa",
    "hotpotqa",
    "2wikimultihopqa",
    "musique",
    "bamboogle",
)


@dataclass(frozen=True)
class PublishedRow:
    """One method's published figures, each by benchmark.

    Attributes:
        method: as the paper calls it.
        em: exact match in [0, 1].
        cost: per question, completion tokens x $ per 1M tokens; only some benchmarks have it.
    """

    method: str
    em: dict[str, float]
    cost: dict[str, float]

    @property
    def is_router_r1(self) -> bool:
        """Whether the row is the paper's own method."""
        return self.method.startswith("Router-R1")


_COST_BENCHMARKS = ("nq", "popqa", "hotpotqa", "2wikimultihopqa")
_EM = {
    "Direct": (0.092, 0.260, 0.122, 0.140, 0.266, 0.026, 0.040),
    "CoT": (0.126, 0.358, 0.160, 0.168, 0.208, 0.046, 0.224),
    "SFT": (0.212, 0.400, 0.160, 0.198, 0.256, 0.052, 0.112),
    "RAG": (0.298, 0.540, 0.366, 0.216, 0.146, 0.078, 0.224),
    "Search-R1": (0.328, 0.510, 0.324, 0.236, 0.278, 0.090, 0.272),
    "Prompt LLM": (0.300, 0.580, 0.340, 0.268, 0.262, 0.108, 0.448),
    "Largest LLM": (0.296, 0.578, 0.354, 0.278, 0.274, 0.104, 0.480),
    "KNN Router": (0.262, 0.528, 0.222, 0.224, 0.196, 0.066, 0.360),
    "MLP Router": (0.252, 0.460, 0.222, 0.198, 0.210, 0.072, 0.360),
    "BERT Router": (0.230, 0.516, 0.192, 0.216, 0.206, 0.058, 0.312),
    "RouterDC": (0.278, 0.592, 0.282, 0.244, 0.218, 0.080, 0.504),
    "GraphRouter": (0.276, 0.586, 0.280, 0.234, 0.180, 0.076, 0.448),
    "Prompt LLM (multi-round)": (0.258, 0.500, 0.256, 0.206, 0.248, 0.078, 0.472),
    "KNN Router (multi-round)": (0.236, 0.478, 0.232, 0.154, 0.234, 0.072, 0.384),
    "Router-R1": (0.388, 0.706, 0.384, 0.352, 0.434, 0.138, 0.512),
    "Router-R1 (Llama-3.2-3B-Instruct)": (0.416, 0.680, 0.432, 0.322, 0.368, 0.128, 0.520),
}
_COST = {
    "Prompt LLM": (20.0, 17.6, 20.1, 20.2),
    "Largest LLM": (20.2, 17.6, 20.1, 20.1),
    "KNN Router": (41.0, 30.3, 45.4, 51.8),
    "MLP Router": (35.8, 21.0, 29.5, 41.3),
    "BERT Router": (26.0, 16.3, 26.0, 26.3),
    "RouterDC": (57.5, 21.8, 62.3, 40.7),
    "GraphRouter": (29.6, 19.2, 24.7, 28.6),
    "Router-R1": (150.6, 98.3, 138.6, 150.8),
}
# Router-R1 trained with other cost coefficients: (EM, cost) on the benchmarks that have costs.
_COST_SWEEP = {
    "0.6": ((0.388, 0.414, 0.332, 0.422), (150.0, 75.9, 124.3, 113.8)),
    "0.7": ((0.318, 0.280, 0.254, 0.236), (32.3, 17.2, 27.2, 31.4)),
    "0.8": ((0.320, 0.270, 0.238, 0.202), (28.9, 14.9, 28.2, 31.4)),
    "0.9": ((0.244, 0.234, 0.186, 0.252), (5.5, 5.3, 5.3, 6.5)),
}


def _by_benchmark(names: tuple[str, ...], values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def published_rows() -> list[PublishedRow]:
    """All methods, in the paper's order; Router-R1's other cost coefficients last."""
    rows = [
        PublishedRow(
            method,
            _by_benchmark(BENCHMARKS, em),
            _by_benchmark(_COST_BENCHMARKS, _COST[method]) if method in _COST else {},
        )
        for method, em in _EM.items()
    ]
    sweep = [
        PublishedRow(
            f"Router-R1, cost coefficient {coefficient}",
            _by_benchmark(_COST_BENCHMARKS, em),
            _by_benchmark(_COST_BENCHMARKS, cost),
        )
        for coefficient, (em, cost) in _COST_SWEEP.items()
    ]
    return rows + sweep
