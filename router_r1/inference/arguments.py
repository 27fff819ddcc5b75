"""The command line of asking, and what it shares with serving: model, pool, engine.

Importing it brings no torch: a command line is parsed before what takes seconds is imported.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field, fields
from typing import Any, Self

from router_r1.llm_agent.prompt import STYLES
from router_r1.tags import ROUTE_TAGS
from verl.config.rollout import ENGINES
from verl.config.sampling import Sampling
from verl.config.validation import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_ABOVE_0,
    Section,
)

_ASKING = """\
With no arguments: the newest trained model answers an example question of the embedded world.
Questions piped into the command are answered one after the other.
Results go to standard output, everything else to standard error.
"""


@dataclass(frozen=True)
class RouterArguments(Section, prefix="--"):
    """What the user chose; None leaves it to :func:`router_r1.inference.settings.resolve`.

    Lengths are in tokens, as in :class:`verl.config.ppo.DataConfig`. A value out of its range is a
    :class:`ConfigError`.
    """

    model_path: str | None = None
    pool: str | None = None
    api_base: str | None = None
    api_key: str | None = None
    engine: str = "vllm"
    device: str | None = None
    prompt_style: str | None = None
    route_tag: str | None = None
    cost_coe: float | None = field(default=None, metadata=SHARE)
    chat_template_options: dict[str, Any] | None = None
    temperature: float = field(default=0.0, metadata=NOT_NEGATIVE)
    top_p: float = field(default=Sampling.top_p, metadata=SHARE_ABOVE_0)
    seed: int = 0
    max_turns: int | None = field(default=None, metadata=POSITIVE)
    max_start_length: int | None = field(default=None, metadata=POSITIVE)
    max_prompt_length: int | None = field(default=None, metadata=POSITIVE)
    max_response_length: int | None = field(default=None, metadata=POSITIVE)
    max_obs_length: int | None = field(default=None, metadata=POSITIVE)

    @classmethod
    def from_namespace(cls, namespace: argparse.Namespace) -> Self:
        """Picks the shared arguments out of a parsed command line."""
        return cls(**{own.name: getattr(namespace, own.name) for own in fields(cls)})


def asking_parser(prog: str = "infer_vllm.py") -> argparse.ArgumentParser:
    """The arguments of asking on the command line; ``prog`` is the command's name in its help."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Asks a trained router, and shows how it comes to its answer.",
        epilog=_ASKING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--question", help="one question")
    asked.add_argument(
        "--questions_file",
        metavar="FILE",
        help="one a line, or JSONL or parquet with a field 'question'; - is standard input",
    )
    asked.add_argument("--interactive", action="store_true", help="ask at a prompt")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a question instead of the text"
    )
    add_router_arguments(parser)
    return parser


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def add_router_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the shared arguments."""
    defaults = RouterArguments()
    model = parser.add_argument_group("model and engine")
    model.add_argument(
        "--model_path",
        help="checkpoint folder or hub name; default: the newest checkpoint in outputs/",
    )
    model.add_argument("--engine", choices=ENGINES, default=defaults.engine)
    model.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        help="default: auto, or cpu for a router that was trained there",
    )
    model.add_argument(
        "--temperature", type=float, default=defaults.temperature, help="0 (default) is greedy"
    )
    model.add_argument("--top_p", type=float, default=defaults.top_p, help="default 1")
    model.add_argument("--seed", type=int, default=defaults.seed, help="of the sampling")
    pool = parser.add_argument_group("pool")
    pool.add_argument(
        "--cost_coe",
        type=float,
        metavar="WEIGHT",
        help="what cost counts beside a right answer, 0 to 1, for a router that was trained with "
        "state_cost_coe=true; default: the least that it was trained with",
    )
    pool.add_argument(
        "--pool",
        metavar="NAME_OR_PATH",
        help="of configs/pool, or a YAML file; default: as trained",
    )
    pool.add_argument("--api_base", help="OpenAI-compatible endpoint instead of the pool's own")
    pool.add_argument(
        "--api_key",
        help="works, but other users of this machine can read command lines: better set the "
        "environment variable that the pool names (ROUTER_R1_API_KEY)",
    )
    loop = parser.add_argument_group("loop", "as the model was trained, unless given")
    loop.add_argument("--prompt_style", choices=STYLES)
    loop.add_argument("--route_tag", choices=ROUTE_TAGS, help="that calls an LLM")
    loop.add_argument(
        "--chat_template_options",
        type=_json_object,
        metavar="JSON",
        help="variables of the model's chat template, such as '{\"enable_thinking\": false}'",
    )
    loop.add_argument("--max_turns", type=int, help="turns with routing")
    loop.add_argument("--max_start_length", type=int, help="of the prompt, tokens")
    loop.add_argument("--max_prompt_length", type=int, help="of the whole context, tokens")
    loop.add_argument("--max_response_length", type=int, help="of a turn, tokens")
    loop.add_argument("--max_obs_length", type=int, help="of an information block, tokens")
