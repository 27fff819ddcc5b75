"""Root config of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from verl.config.model import FSDPConfig, ModelConfig, OptimConfig
from verl.config.paths import PATH
from verl.config.ppo import RanksConfig, RayConfig
from verl.config.saving import AUTO, NEVER
from verl.config.validation import POSITIVE, ConfigError, Section, one_of

_COMPONENT_STEPS = 300


@dataclass
class ComponentConfig:
    """A class named by ``target`` and its keyword arguments; worker processes build it, so a path
    in ``args`` must be absolute."""

    target: str = MISSING
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class SFTDataConfig(Section, prefix="data."):
    """What is learned: files of chats, or a component that makes examples.

    Attributes:
        train_files, val_files: parquet files, each row a chat; of the latter the loss is measured.
        messages_key: the column with the chat, a list of ``{role, content}``.
        max_length: tokens of the longest example.
        drop_overlong: leave longer ones out; else they are refused.
        shuffle: each epoch in an order of its own, from ``trainer.seed``.
        apply_chat_template_kwargs: variables of the tokenizer's chat template.
        target: instead of files a class with ``sample_batch(step, batch_size)``, see
            :class:`verl.trainer.sft.examples.ExampleSource`; null for files.
        args: its keyword arguments, as in :class:`ComponentConfig`.
    """

    train_files: list[str] = field(default_factory=list, metadata=PATH)
    val_files: list[str] = field(default_factory=list, metadata=PATH)
    messages_key: str = "messages"
    max_length: int = field(default=4096, metadata=POSITIVE)
    drop_overlong: bool = False
    shuffle: bool = True
    apply_chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class SFTTrainerConfig(RanksConfig):
    """The run.

    Attributes:
        output_dir: gets the fine-tuned model, in Hugging Face format.
        run_dir: gets checkpoints, metrics and configuration; null keeps none.
        steps: optimizer steps; null takes ``epochs``, or 300 where a component makes the examples.
        epochs: passes over the training files; null is 1 where ``steps`` is null too.
        batch_size: examples per step, over all ranks.
        max_token_len_per_gpu: tokens per forward pass and rank; a longer example goes alone.
        gate_freq: steps between two calls of the gate; the last step always asks.
        test_freq: steps between two measures of the loss on ``data.val_files``; -1 is at the end
            alone, where it is always measured.
        save_freq: steps between two checkpoints; -1 writes none.
        max_ckpt_to_keep: so many stay, the newest; null keeps all.
        max_nonfinite_steps: steps in a row, since the command was given, whose update was left out
            because its gradient was not finite; so many end the run with an error (looked at every
            ten steps at least). null has no limit.
        resume: "auto" goes on from the newest checkpoint in ``run_dir``, "never" sets what is there
            aside.
    """

    output_dir: str = field(default=MISSING, metadata=PATH)
    run_dir: str | None = field(default=None, metadata=PATH)
    steps: int | None = field(default=None, metadata=POSITIVE)
    epochs: int | None = field(default=None, metadata=POSITIVE)
    batch_size: int = field(default=32, metadata=POSITIVE)
    max_token_len_per_gpu: int = field(default=16384, metadata=POSITIVE)
    gate_freq: int = field(default=50, metadata=POSITIVE)
    test_freq: int = -1
    save_freq: int = -1
    max_ckpt_to_keep: int | None = field(default=1, metadata=POSITIVE)
    max_nonfinite_steps: int | None = field(default=10, metadata=POSITIVE)
    resume: str = field(default=AUTO, metadata=one_of(AUTO, NEVER))
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.ranks:
            raise ConfigError(
                f"trainer.batch_size={self.batch_size} is not divisible by the {self.ranks} ranks"
            )
        if self.steps is not None and self.epochs is not None:
            raise ConfigError(
                f"trainer.steps={self.steps} and trainer.epochs={self.epochs} both say how long "
                "the run is; set one of them to null"
            )
        if self.save_freq > 0 and self.run_dir is None:
            raise ConfigError(
                f"trainer.save_freq={self.save_freq} needs a folder for checkpoints: set "
                "trainer.run_dir"
            )


@dataclass
class SFTConfig:
    """Root config.

    Attributes:
        gate: optional class called with (model, tokenizer) that says when the model is good
            enough; see :class:`verl.trainer.sft.gate.Gate`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    fsdp_config: FSDPConfig = field(default_factory=FSDPConfig)
    data: SFTDataConfig = field(default_factory=SFTDataConfig)
    gate: ComponentConfig | None = None
    trainer: SFTTrainerConfig = field(default_factory=SFTTrainerConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        data, trainer = self.data, self.trainer
        if bool(data.target) == bool(data.train_files):
            raise ConfigError(
                "set either data.train_files, parquet files of chats, or data.target, a class that "
                f"makes examples; got {data.train_files} and {data.target}"
            )
        if data.target is None:
            return
        if trainer.epochs is not None or data.val_files:
            raise ConfigError(
                "trainer.epochs and data.val_files are for data.train_files; with "
                f"data.target={data.target} set trainer.steps"
            )
        if trainer.steps is None:
            trainer.steps = _COMPONENT_STEPS

    @property
    def total_steps(self) -> int:
        """Optimizer steps, once they are known; see :func:`verl.trainer.sft.examples.settle`."""
        if self.trainer.steps is None:
            raise ConfigError("trainer.steps is not settled before the data is read")
        return self.trainer.steps
