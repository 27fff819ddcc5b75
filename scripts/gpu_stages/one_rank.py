"""The project's own worker in this process: a group of one rank, without Ray."""

from __future__ import annotations

import socket

import torch

from verl.config.model import ActorConfig, ModelConfig
from verl.single_controller.worker import RankInfo, Worker
from verl.workers.fsdp.actor import ActorWorker


def make_actor(model: ModelConfig, config: ActorConfig, device: torch.device) -> ActorWorker:
    """An actor of one rank on ``device``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    info = RankInfo(0, 1, 0, device.type, "127.0.0.1", port, torch.get_num_threads())
    Worker.init_process_group(info)
    return ActorWorker(info, model, config, temperature=1.0, total_steps=100)
