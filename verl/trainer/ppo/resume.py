"""Whether a run goes on from a checkpoint, and from which.

Guarantees: a run never goes on under another configuration unless its folder was named; where it
does not go on, an unfinished run is not set aside without a word from the user.

``trainer.resume=auto`` takes the newest checkpoint in the run's own folder. Of the configuration,
what is computed must be the same; how, where and for how long may differ.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verl.config.ppo import TrainerConfig
from verl.config.saving import AUTO, NEVER
from verl.errors import UserError
from verl.trainer.ppo.run_state import RunIdentity, RunState
from verl.utils.checkpoints import (
    RUN_STATE,
    Checkpoint,
    checkpoint_at,
    list_checkpoints,
    restore_replaced,
)

# Groups of which only the last keys named count, and keys that may differ anywhere.
_FREE_GROUPS = ("trainer", "evaluation", "ray")
_BOUND = ("trainer.seed",)
_FREE_KEYS = (
    "attn_implementation",
    "cpu_kv_cache_gib",
    "cpu_threads",
    "enable_gradient_checkpointing",
    "enforce_eager",
    "free_cache_engine",
    "fsdp_config",
    "generation_timeout_s",
    "gpu_memory_utilization",
    "inline_engine",
    "logits_chunk_tokens",
    "max_num_seqs",
    "max_restarts",
    "num_replicas",
    "ppo_max_token_len_per_gpu",
    "ppo_micro_batch_size",
    "start_timeout_s",
    "tensor_model_parallel_size",
    "torch_compile",
    "update_weights_bucket_megabytes",
    "use_dynamic_bsz",
    "use_remove_padding",
    "val_batch_size",
)
_SHOWN = 4

logger = logging.getLogger(__name__)


class ResumeError(UserError):
    """The run can neither go on nor begin; the message says what to decide."""


def find_start(
    trainer: TrainerConfig, identity: RunIdentity, free: Sequence[str] = ()
) -> Checkpoint | None:
    """The checkpoint that the run of this identity goes on from; None to begin anew.

    ``free`` are keys of the task's that may differ; a key stands for all below it.

    Raises:
        ResumeError: if a run in the folder has not reached its end and is another; or if the
            folder that ``trainer.resume`` names has no checkpoint.
    """
    if trainer.resume == NEVER or trainer.val_only:
        return None
    if trainer.resume != AUTO:
        return _named(Path(trainer.resume), identity, free)
    output_dir = Path(trainer.default_local_dir)
    restore_replaced(output_dir)
    found = newest_resumable(list_checkpoints(output_dir))
    if found is None:
        return None
    state = RunState.from_json(found.read_run_state())
    earlier = state.identity
    different = differences(earlier, identity, free)
    if state.finished and (different or identity.total_steps <= earlier.total_steps):
        return None  # this is a new run
    if different:
        raise ResumeError(
            f"{output_dir} holds a run that ended after {found.step} of {earlier.total_steps} "
            f"steps, and this one differs from it: {_shorten(different)}. Take its configuration "
            "to go on with it; or trainer.resume=never sets it aside and starts anew; "
            f"trainer.resume={found.folder} goes on from it all the same"
        )
    if found.step > identity.total_steps:
        raise ResumeError(
            f"{output_dir} holds a run of {found.step} steps, and this one is to have "
            f"{identity.total_steps}; trainer.resume=never sets it aside and starts anew"
        )
    return found


def newest_resumable(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """The first that training can go on from, of checkpoints from the newest on."""
    return next((checkpoint for checkpoint in checkpoints if checkpoint.resumable), None)


def _named(folder: Path, identity: RunIdentity, free: Sequence[str]) -> Checkpoint:
    """The checkpoint that the user has named, by its own folder or its run's."""
    own = checkpoint_at(folder)
    candidates = list_checkpoints(folder) if own is None else [own]
    found = newest_resumable(candidates)
    if found is None:
        raise ResumeError(
            f"trainer.resume={folder} is neither {AUTO}, {NEVER} nor a folder with a checkpoint to "
            f"go on from (global_step_N with {RUN_STATE}, or a run's folder that has one)"
        )
    if found.step >= identity.total_steps:
        raise ResumeError(
            f"{found.folder} has {found.step} steps already, and the run is to have "
            f"{identity.total_steps}: raise trainer.total_training_steps"
        )
    state = RunState.from_json(found.read_run_state())
    for difference in differences(state.identity, identity, free):
        logger.warning("this run differs from the one that it goes on with: %s", difference)
    return found


def differences(then: RunIdentity, now: RunIdentity, free: Sequence[str] = ()) -> list[str]:
    """What makes two runs different: ``key was x, is y``.

    A key that only one of them knows came or went with a version of the code and does not count;
    one that is a value in one of them and a group or list in the other does.
    """
    before, after = (
        dict(_flat(json.loads(json.dumps(identity.config)))) for identity in (then, now)
    )
    found = [
        f"{key} was {_told(key, before)}, is {_told(key, after)}"
        for key in dict.fromkeys((*before, *after))
        if _differs(key, before, after) and not _may_differ(key, free)
    ]
    if then.train_rows != now.train_rows:
        found.append(f"data.train_files had {then.train_rows} rows, have {now.train_rows}")
    return found


def _differs(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if key in before and key in after:
        return bool(before[key] != after[key])
    return bool(_told(key, before) and _told(key, after))


def _told(key: str, flat: Mapping[str, Any]) -> str:
    """The value or group of that name; empty for neither."""
    if key in flat:
        return repr(flat[key])
    return ", ".join(
        f"{k.removeprefix(key)[1:]}={v!r}" for k, v in flat.items() if k.startswith(f"{key}.")
    )


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by their dotted keys; lists by position."""
    if not isinstance(config, dict | list):
        yield prefix, config
        return
    if isinstance(config, list):
        yield f"{prefix}.length", len(config)
        config = dict(enumerate(config))
    for name, value in config.items():
        yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))


def _may_differ(key: str, free: Sequence[str]) -> bool:
    if key in _BOUND:
        return False
    names = key.split(".")
    return (
        names[0] in _FREE_GROUPS
        or any(name in _FREE_KEYS for name in names)
        or any(key == known or key.startswith(f"{known}.") for known in free)
    )


def _shorten(found: Sequence[str]) -> str:
    more = len(found) - _SHOWN
    return "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
