"""A small RL framework for language models: Ray single controller, FSDP2 workers, vLLM rollout."""

from verl.protocol import DataProto

__all__ = ["DataProto"]
