"""An evaluation's rollouts from their checks to their end: on Ray, with an engine of their own."""

from __future__ import annotations

import logging
from pathlib import Path

from verl.config.ppo import PPOConfig
from verl.interfaces import RolloutOptions
from verl.task import Task
from verl.trainer.cluster import ray_cluster
from verl.trainer.cluster_device import settle_device
from verl.trainer.evaluation.generate import (
    TRAJECTORIES,
    evaluation_rows,
    generate,
    prepare_folder,
)
from verl.trainer.evaluation.records import read_keys
from verl.utils.dataset import PromptDataset, load_tokenizer
from verl.utils.device import require_vllm_build
from verl.utils.seeding import seed_everything
from verl.workers.rollout.replicas import RolloutReplicas

logger = logging.getLogger(__name__)


def generate_missing(config: PPOConfig, task: Task, model_path: Path) -> None:
    """Generates what is missing of ``trajectories.jsonl``.

    Args:
        config: validated.
        task: that has not run yet.
        model_path: a model's folder or name.

    Raises:
        UserError: for what cannot work, or if not every prompt can be answered.
    """
    seed_everything(config.trainer.seed)
    surroundings = task.surroundings()
    surroundings.check()
    dataset = _evaluation_dataset(config, task)
    tokenizer = load_tokenizer(str(model_path))
    dataset.check_lengths(
        tokenizer, config.data.max_start_length, config.data.apply_chat_template_kwargs
    )
    folder = prepare_folder(config, model_path, task.record_class)
    requests = evaluation_rows(dataset, config.evaluation.n_samples)
    done = read_keys(folder / TRAJECTORIES)
    if done >= {(request.uid, request.sample_index) for request in requests}:
        logger.info("all %d trajectories are in %s already", len(requests), folder)
        return
    logger.info("scoring %s on %d prompts", model_path, len(dataset))
    with ray_cluster(config.ray, num_ranks=1), surroundings.running():
        device = settle_device(config.trainer.device)
        require_vllm_build(device)
        engine = _start_engine(config, model_path, device)
        try:
            source = task.agent(engine, tokenizer)
            engine.wait_until_ready()
            val = config.actor_rollout_ref.rollout.val
            options = RolloutOptions.of(val, config.trainer.seed)
            generate(
                requests,
                source,
                options,
                folder,
                surroundings.stop_reason,
                surroundings.describe_failures,
            )
        finally:
            engine.shutdown()


def _evaluation_dataset(config: PPOConfig, task: Task) -> PromptDataset:
    """The prompts of an evaluation.

    Raises:
        DataError: if a file cannot be used.
    """
    files = config.evaluation.files or config.data.val_files
    limit = config.evaluation.limit
    return PromptDataset(files, config.data.prompt_key, limit, task.messages, task.check_row)


def _start_engine(config: PPOConfig, model_path: Path, device: str) -> RolloutReplicas:
    rollout = config.actor_rollout_ref.rollout
    return RolloutReplicas(
        rollout,
        str(model_path),
        device,
        rollout.max_model_len or config.data.max_prompt_length,
        config.trainer.seed,
    )
