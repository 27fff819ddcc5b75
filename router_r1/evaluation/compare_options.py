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
OUTCOMES_OUTPUT = Path("outputs/outcomes")
# Name for ``--baselines``: what it is. ``router_r1.evaluation.baselines.registry`` makes them.
DESCRIPTIONS = {
    "random": "a random LLM",
    "single": "each single LLM",
    "best": "the LLM that did best on the training questions",
    "cheapest": "the LLM with the lowest price",
    "largest": "the LLM with the highest price",
    "knn": "k nearest neighbours",
    "mlp": "multi-layer perceptron",
    "carrot": "cost-aware, in the manner of CARROT",
    "graph": "in the manner of GraphRouter",
    "fusion": "in the manner of FusionFactory",
    "retrieval": "in the manner of Search-R1; needs a retriever",
    "oracle": "the embedded world's best route, taken; of a table, the best LLM per question",
}
# What makes calls, or needs them, and so does not go with a table of outcomes.
_CALLING = (
    *("world", "train_files", "test_files", "pool", "api_base", "normalization"),
    *("router", "sweep", "retriever", "reader"),
)
DEFAULT_EMBEDDER = "router_r1.evaluation.baselines.embedding.TfidfEmbedder"


class SavedEvaluation(NamedTuple):
    """A router's evaluation on disk; ``label`` is its name, or its ``cost_coe`` in a sweep."""

    label: str
    folder: Path


def _saved_evaluation(text: str) -> SavedEvaluation:
    label, _, folder = text.partition("=")
    if not (label.strip() and folder.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=FOLDER")
    return SavedEvaluation(label.strip(), Path(folder.strip()))


def _sweep_point(text: str) -> SavedEvaluation:
    saved = _saved_evaluation(text)
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


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
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
    parser = comparison_parser()
    args = parser.parse_args(arguments)
    if args.outcomes:
        if given := [f"--{n}" for n in _CALLING if getattr(args, n) != parser.get_default(n)]:
            raise ConfigError(
                f"--outcomes compares what the table tells, without a call; {', '.join(given)} "
                "cannot be given with it"
            )
        args.output = args.output or OUTCOMES_OUTPUT / args.outcomes.stem
        return args
    if args.train_share is not None:
        raise ConfigError("--train_share splits a table of outcomes; give one with --outcomes")
    args.output = args.output or DEFAULT_EVALUATION
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

    told = (read_json_object(saved.folder / "results.json") or {} for saved in evaluations)
    return next((str(results["pool"]) for results in told if results.get("pool")), None)


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
    recorded = parser.add_argument_group("a table of recorded outcomes, in the place of calls")
    recorded.add_argument(
        "--outcomes",
        type=Path,
        metavar="TABLE",
        help="csv, jsonl or parquet: a row for each question and LLM, with question, llm, right "
        "(0 to 1) and cost ($), and if known answer, latency_s, data_source, split (train, test)",
    )
    recorded.add_argument(
        "--train_share",
        type=_share,
        help="of each dataset's questions, to learn from, where no column says it (default: 0.5)",
    )
    routers = parser.add_argument_group("routers, as bash test.sh left them")
    routers.add_argument(
        "--router",
        type=_saved_evaluation,
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
    parser.add_argument(
        "--output",
        type=Path,
        help=f"folder (default: {DEFAULT_EVALUATION}; of a table, {OUTCOMES_OUTPUT}/<its name>)",
    )
    return parser
