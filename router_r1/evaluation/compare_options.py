"""The command line of a comparison."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from router_r1.reward.normalization import NORMALIZATIONS
from router_r1.world.config import WorldConfig
from verl.config.validation import ConfigError

DEFAULT_EVALUATION = Path("outputs/quickstart/eval")
# Name for ``--baselines``: what it is. ``router_r1.evaluation.baselines.registry`` makes them.
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
    "oracle": "the embedded world's best route, taken",
}
DEFAULT_EMBEDDER = "router_r1.evaluation.baselines.embedding.TfidfEmbedder"


class SavedEvaluation(NamedTuple):
    """A router's evaluation on disk; ``label`` is its name, or its ``cost_coe`` in a sweep."""

    label: str
    folder: Path


def saved_evaluation(text: str) -> SavedEvaluation:
    """From ``LABEL=FOLDER``."""
    label, separator, folder = text.partition("=")
    if not (separator and label.strip() and folder.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return SavedEvaluation(label.strip(), Path(folder.strip()))


def _sweep_point(text: str) -> SavedEvaluation:
    saved = saved_evaluation(text)
    try:
        float(saved.label)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form COE=FOLDER") from None
    return saved


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _weights(text: str) -> list[float]:
    values = [float(word) for word in _words(text)]
    if not values or min(values) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds no weight, or a negative one")
    return values


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line.

    Raises:
        ConfigError: for options that do not go together.
        EvaluationFileError: if an evaluation's results cannot be read.
    """
    args = comparison_parser().parse_args(arguments)
    if bool(args.test_files) != bool(args.train_files):
        raise ConfigError("real data needs both --train_files and --test_files")
    if args.world and args.test_files:
        raise ConfigError("--world and --test_files exclude each other")
    if args.test_files and args.pool is None:
        raise ConfigError("real data needs --pool NAME_OR_PATH")
    stated = _stated_pool([*args.router, *args.sweep])
    if not args.router and (DEFAULT_EVALUATION / "questions.parquet").is_file():
        default = SavedEvaluation("trained", DEFAULT_EVALUATION)
        if stated in (None, _stated_pool([default])):  # a router of another pool is none to compare
            args.router = [default]
    args.pool = args.pool or stated or _stated_pool(args.router) or "embedded"
    return args


def _stated_pool(evaluations: Sequence[SavedEvaluation]) -> str | None:
    """Name of the pool that the first of them was made with; None where none says it."""
    from router_r1.evaluation.comparison import read_json_object  # takes pandas to import

    for evaluation in evaluations:
        results = read_json_object(evaluation.folder / "results.json") or {}
        if results.get("pool"):
            return str(results["pool"])
    return None


def comparison_parser(
    prog: str = "python -m router_r1.evaluation.compare",
) -> argparse.ArgumentParser:
    """The arguments; ``prog`` is the command's name in its help."""
    listed = "\n".join(f"  {name:<10} {what}" for name, what in DESCRIPTIONS.items())
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compares routers with baselines on the same questions, pool and costs.",
        epilog=f"baselines:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("questions and pool")
    data.add_argument("--world", action="store_true", help="the embedded world (the default)")
    data.add_argument("--world_seed", type=int, default=WorldConfig.seed)
    data.add_argument("--train_files", nargs="+", default=[], help="parquet, to learn from")
    data.add_argument("--test_files", nargs="+", default=[], help="parquet, to compare on")
    data.add_argument("--train_questions", type=_positive, default=600, help="to learn from")
    data.add_argument("--test_questions", type=_positive, help="a sample of so many; all if unset")
    data.add_argument(
        "--pool", help="name or path of the pool file (default: the first router's, else embedded)"
    )
    data.add_argument("--api_base", help="overrides the pool's endpoint")
    data.add_argument(
        "--normalization",
        choices=NORMALIZATIONS,
        default="paper",
        help="of answers, as reward.normalization was when the routers were scored",
    )
    routers = parser.add_argument_group("routers, as bash test.sh left them")
    routers.add_argument(
        "--router",
        type=saved_evaluation,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="repeatable; prompt-only=FOLDER is the untrained policy "
        f"(default: trained={DEFAULT_EVALUATION}, if it is there)",
    )
    routers.add_argument(
        "--sweep",
        type=_sweep_point,
        action="append",
        default=[],
        metavar="COE=FOLDER",
        help="repeatable: the router trained with that cost_coe",
    )
    learners = parser.add_argument_group("baselines")
    learners.add_argument("--baselines", type=_words, help="comma list; all if unset")
    learners.add_argument(
        "--carrot_lambda",
        type=_weights,
        default=[0.0, 0.1, 0.3],
        help="comma list: EM given up to save the mean cost of the dearest LLM",
    )
    learners.add_argument("--retriever", help="pool member that retrieves (real data)")
    learners.add_argument(
        "--reader", help="LLM of the pool that reads what was retrieved; a rule if unset"
    )
    learners.add_argument("--embedder", default=DEFAULT_EMBEDDER, metavar="MODULE.CLASS")
    learners.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=DEFAULT_EVALUATION)
    return parser
