"""A small RL framework for language models: Ray single controller, FSDP2 workers, vLLM rollout.

``verl.DataProto`` is imported when it is first asked for: it brings torch, which takes seconds, and
most of the package does without. A process that imports ``verl`` collects garbage less often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl.utils.garbage import collect_rarely

if TYPE_CHECKING:
    from verl.protocol import DataProto

collect_rarely()

__all__ = ["DataProto"]


def __getattr__(name: str) -> Any:
    if name == "DataProto":
        from verl.protocol import DataProto

        return DataProto
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
