"""Root config of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.config.paths import PATH
from verl.config.ppo import RayConfig
from verl.config.validation import ConfigError, require_choice, require_positive


@dataclass
class ComponentConfig:
    """A class named by ``target`` and its keyword arguments.

    Worker processes build it: a path in ``args`` must be absolute.
    """

    target: str = MISSING
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class SFTTrainerConfig:
    """The run.

    Attributes:
        output_dir: gets the fine-tuned model, in Hugging Face format.
        steps: optimizer steps.
        batch_size: examples per step, over all ranks.
        gate_freq: steps between two calls of the gate; the last step always asks.
    """

    output_dir: str = field(default=MISSING, metadata=PATH)
    steps: int = 300
    batch_size: int = 32
    gate_freq: int = 50
    n_gpus_per_node: int = 1
    nnodes: int = 1
    device: str = "auto"
    cpu_threads: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        require_choice("trainer.device", self.device, ("auto", "cpu", "cuda"))
        require_positive(
            **{
                "trainer.steps": self.steps,
                "trainer.batch_size": self.batch_size,
                "trainer.gate_freq": self.gate_freq,
                "trainer.n_gpus_per_node": self.n_gpus_per_node,
            }
        )
        ranks = self.nnodes * self.n_gpus_per_node
        if self.batch_size % ranks:
            raise ConfigError(
                f"trainer.batch_size={self.batch_size} is not divisible by the {ranks} ranks"
            )


@dataclass
class SFTConfig:
    """Root config.

    Attributes:
        data: a class with ``sample_batch(step, batch_size)``, see
            :class:`verl.trainer.sft.worker.SFTWorker`.
        gate: optional class called with (model, tokenizer) that says when the model is good
            enough; see :class:`verl.trainer.sft.gate.Gate`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fsdp_config: FSDPConfig = field(default_factory=FSDPConfig)
    data: ComponentConfig = field(default_factory=ComponentConfig)
    gate: ComponentConfig | None = None
    trainer: SFTTrainerConfig = field(default_factory=SFTTrainerConfig)
    ray: RayConfig = field(default_factory=RayConfig)
