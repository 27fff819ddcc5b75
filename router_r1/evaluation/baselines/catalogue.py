"""What a command line says of the baselines, without the libraries that they are made with."""

from __future__ import annotations

# Name for ``--baselines``: what it is. The order is that of :data:`registry.BASELINES`.
DESCRIPTIONS = {
    "random": "a random LLM",
    "single": "each single LLM",
    "cheapest": "the LLM with the lowest price",
    "largest": "the LLM with the highest price",
    "knn": "k nearest neighbours",
    "mlp": "multi-layer perceptron",
    "carrot": "cost-aware, in the manner of CARROT",
    "graph": "in the manner of GraphRouter",
    "fusion": "in the manner of FusionFactory",
    "retrieval": "in the manner of Search-R1; needs a retriever",
    "oracle": "the embedded world's best route, played",
}
DEFAULT_EMBEDDER = "router_r1.evaluation.baselines.embedding.TfidfEmbedder"
