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
    missing_requests,
    prepare_folder,
)
from verl.utils.dataset import PromptDataset, load_tokenizer
from verl.utils.device import require_vllm_build
from verl.utils.seeding import seed_everything
from verl.workers.rollout.replicas import RolloutReplicas

logger = logging.getLogger(__name__)


def generate_missing(config: PPOConfig, task: Task, model_path: Path) -> None:
    """Generates what is missing of ``trajectories.jsonl``, by a model's folder or name.

    Raises:
        UserError: for what cannot work, or if not every prompt can be answered.
    """
    seed, evaluation, data = config.trainer.seed, config.evaluation, config.data
    seed_everything(seed)
    surroundings = task.surroundings()
    surroundings.check()
    files = evaluation.files or data.val_files
    dataset = PromptDataset(files, data.prompt_key, evaluation.limit, task.messages, task.check_row)
    tokenizer = load_tokenizer(str(model_path))
    dataset.check_lengths(tokenizer, data.max_start_length, data.apply_chat_template_kwargs)
    folder = prepare_folder(config, model_path, task.record_class)
    requests = evaluation_rows(dataset, evaluation.n_samples)
    if not missing_requests(requests, folder / TRAJECTORIES):
        logger.info("all %d trajectories are in %s already", len(requests), folder)
        return
    logger.info("scoring %s on %d prompts", model_path, len(dataset))
    with ray_cluster(config.ray, num_ranks=1), surroundings.running():
        device = settle_device(config.trainer.device)
        require_vllm_build(device)
        rollout = config.actor_rollout_ref.rollout
        engine = RolloutReplicas(rollout, str(model_path), device, config.longest_context, seed)
        try:
            source = task.agent(engine, tokenizer)
            engine.wait_until_ready()
            options = RolloutOptions.of(rollout.val, seed)
            stop_reason, failures = surroundings.stop_reason, surroundings.describe_failures
            generate(requests, source, options, folder, stop_reason, failures)
        finally:
            engine.shutdown()
