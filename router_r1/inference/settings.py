"""From arguments to everything that shapes a trajectory.

Guarantees: what the user leaves open is as the model was trained: by the ``config.yaml`` of its
run where the checkpoint lies in one, else by the recipe that fits the pool.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from router_r1.config import RouterConfig
from router_r1.inference.arguments import RouterArguments
from router_r1.llm_agent.generation import GenerationLimits
from router_r1.pool.config import PoolConfig
from router_r1.pool.loading import load_pool
from router_r1.pool.recording import RecordingConfig
from router_r1.tags import Tags
from router_r1.world.config import EmbeddedWorldConfig
from verl.config.rollout import RolloutConfig
from verl.config.validation import ConfigError, to_dataclass
from verl.errors import UserError
from verl.interfaces import RolloutOptions
from verl.trainer.launch import CONFIG_FOLDER, compose_config
from verl.utils.checkpoints import config_of_run, find_newest_actor
from verl.utils.device import resolve_device

_COLD_START_MARK = "cold_start.json"


@dataclass(frozen=True)
class RouterSettings:
    """A router, ready to be started.

    Attributes:
        model_path: folder or hub name.
        engine: one of :data:`verl.config.rollout.ENGINES`.
        device: "cpu" or "cuda".
        seed: of the engine's own stream; ``options`` hold the same for the questions.
        pool: the LLMs, with the endpoint in force.
        api_key: from the command line; None reads the pool's environment variable.
        world: answers for the pool if that is simulated and has no endpoint.
        cost_coe: what cost counts for a question that does not say it; None for a router that is
            not told.
        state_prices: whether prompts say what LLMs cost.
        template_options: of the tokenizer's chat template.
        max_start_length: the longest prompt, tokens.
    """

    model_path: str
    engine: str
    device: str
    rollout: RolloutConfig
    seed: int
    pool: PoolConfig
    api_key: str | None
    world: EmbeddedWorldConfig
    prompt_style: str
    tags: Tags
    cost_coe: float | None
    state_prices: bool
    template_options: dict[str, Any]
    limits: GenerationLimits
    max_start_length: int
    options: RolloutOptions


def resolve(arguments: RouterArguments) -> RouterSettings:
    """The settings that the arguments mean; a trained model is sought in the folder we are in, then
    in the repository. Raises :class:`UserError` if there is no such model or pool, or values
    contradict each other."""
    model_path = arguments.model_path or default_model(Path.cwd(), CONFIG_FOLDER.parent)
    given_pool = load_pool(arguments.pool) if arguments.pool else None
    trained = _training_config(model_path, given_pool)
    pool = given_pool or _trained_pool(trained)
    if api_base := arguments.api_base or trained.api_base:
        pool = replace(pool, api_base=api_base)
    data = trained.data
    limits = GenerationLimits(
        max_turns=arguments.max_turns or trained.max_turns,
        max_response_length=arguments.max_response_length or data.max_response_length,
        max_prompt_length=arguments.max_prompt_length or data.max_prompt_length,
        max_obs_length=arguments.max_obs_length or data.max_obs_length,
        question=trained.question_limit,
    )
    max_start_length = arguments.max_start_length or data.max_start_length
    if max_start_length >= limits.max_prompt_length:
        raise ConfigError(
            f"--max_start_length ({max_start_length}) must be less than --max_prompt_length "
            f"({limits.max_prompt_length}), the whole context"
        )
    # A router trained on GPUs can be asked without one; a tiny one is no job for a GPU.
    device = resolve_device(
        arguments.device or ("cpu" if trained.trainer.device == "cpu" else "auto")
    )
    rollout = trained.actor_rollout_ref.rollout
    if device == "cpu":  # whatever the model was trained on
        rollout = replace(rollout, tensor_model_parallel_size=1)
    return RouterSettings(
        model_path=model_path,
        engine=arguments.engine,
        device=device,
        rollout=rollout,
        seed=arguments.seed,
        pool=pool,
        api_key=arguments.api_key or trained.api_key,
        world=trained.world or EmbeddedWorldConfig(),
        prompt_style=arguments.prompt_style or trained.prompt_style or "qwen",
        tags=Tags(arguments.route_tag or trained.route_tag),
        cost_coe=_cost_coe(arguments, trained),
        state_prices=trained.state_prices,
        template_options=arguments.chat_template_options or data.apply_chat_template_kwargs,
        limits=limits,
        max_start_length=max_start_length,
        options=RolloutOptions(
            temperature=arguments.temperature, top_p=arguments.top_p, seed=arguments.seed
        ),
    )


def _trained_pool(trained: RouterConfig) -> PoolConfig:
    """As the file has it, without the LLMs that training held out; what the run recorded or might
    spend was its own business."""
    held_out = () if trained.offer is None else trained.offer.held_out
    llms = [
        replace(llm, in_prompt=llm.in_prompt and llm.name not in held_out)
        for llm in trained.pool.llms
    ]
    return replace(trained.pool, llms=llms, recording=RecordingConfig(), budget_usd=None)


def _cost_coe(arguments: RouterArguments, trained: RouterConfig) -> float | None:
    if trained.state_cost_coe:
        given = arguments.cost_coe
        return trained.cost_preference.least if given is None else given
    if arguments.cost_coe is not None:
        raise ConfigError(
            f"--cost_coe={arguments.cost_coe:g} is for a router that is told what cost counts "
            f"(state_cost_coe=true); this one was trained for cost_coe={trained.cost_coe} alone"
        )
    return None


def default_model(*roots: Path) -> str:
    """The newest checkpoint of the run that saved last, else the policy of the cold start, in the
    first of the folders that has one; :class:`UserError` if none has."""
    for root in roots:
        found = (find_newest_actor(run) for run in (root / "outputs").glob("*"))
        actors = [actor for actor in found if actor is not None]
        if actors:
            return str(max(actors, key=lambda actor: (actor / "config.json").stat().st_mtime))
        cold_start = root / ".cache" / "cold_start"
        if (cold_start / _COLD_START_MARK).is_file():
            return str(cold_start)
    raise UserError(
        "there is no trained model yet: run `bash train.sh` (the quickstart takes minutes), or "
        "name one with --model_path"
    )


def _training_config(model_path: str, given_pool: PoolConfig | None) -> RouterConfig:
    """The configuration of the run that the model comes from, or the recipe nearest to it."""
    folder = Path(model_path)
    if dump := config_of_run(folder):
        return _run_config(dump)
    mark = folder / _COLD_START_MARK
    embedded = mark.is_file() if given_pool is None else given_pool.simulated
    overrides = _cold_start_settings(mark) if embedded and mark.is_file() else []
    paper = "paper_llama" if _is_llama(model_path) else "paper_qwen"
    recipe = "quickstart" if embedded else paper
    composed = compose_config("ppo_trainer", [f"recipe={recipe}", *overrides])
    return to_dataclass(composed, RouterConfig)


def _cold_start_settings(mark: Path) -> list[str]:
    """What a cold start was made for, as overrides; older ones do not say all of it."""
    content = json.loads(mark.read_text(encoding="utf-8"))
    told = [f"{name}={bool(content.get(name))}" for name in ("state_cost_coe", "state_prices")]
    limits = [
        f"question_limit.{name}={value}"
        for name, value in content.get("question_limit", {}).items()
        if value is not None
    ]
    return [f"pool={content.get('pool_name', 'embedded')}", *told, *limits]


def _run_config(dump: Path) -> RouterConfig:
    loaded = OmegaConf.load(dump)
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{dump} does not hold a run's configuration")
    loaded.api_key = None  # it is redacted there
    try:
        return to_dataclass(loaded, RouterConfig)
    except ConfigError as error:
        raise ConfigError(f"{dump}, the run of this checkpoint, cannot be used: {error}") from error


def _is_llama(model_path: str) -> bool:
    """By the checkpoint's architecture, or by name where it is not a folder."""
    config = Path(model_path) / "config.json"
    if config.is_file():
        return str(json.loads(config.read_text(encoding="utf-8")).get("model_type")) == "llama"
    return "llama" in model_path.lower()
