"""What training goes on from: the float32 masters of what is trained, Adam's moments, the place in
the schedule.

Guarantees: tensors are written in shards, each rank its own, under the names of the Hugging Face
checkpoint, and are read by any number of ranks; training waits only while they are copied to host
memory; ``.metadata`` appears in the folder last, when everything else of it is on disk.

The format is that of ``torch.distributed.checkpoint``. For a parameter NAME it holds
``parameters.NAME``, ``exp_avg.NAME`` and ``exp_avg_sq.NAME``, float32 of the parameter's shape, and
the scalars ``steps.NAME`` (Adam's) and ``schedule_steps``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from verl.utils.seeding import random_state, restore_random_state
from verl.workers.fsdp.modelling import TokenModel

PARAMETERS = "parameters."
_MOMENTS = ("exp_avg", "exp_avg_sq")
_SCHEDULE = "schedule_steps"


class TrainingState:
    """Of one sharded model and AdamW over its parameters that are trained; the scheduler's learning
    rate is a closed form of the steps done."""

    def __init__(
        self,
        model: TokenModel,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LambdaLR,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._copies: dict[str, torch.Tensor] = {}

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The live tensors, by their names in the checkpoint."""
        for module in self._model.modules():
            if isinstance(module, FSDPModule):  # a forward pass without a backward one has left
                module.reshard()  # gathered parameters in place of those that Adam knows
        tensors: dict[str, torch.Tensor] = {
            _SCHEDULE: torch.tensor(self._scheduler.last_epoch, dtype=torch.int64)
        }
        for own_name, parameter in self._model.named_parameters():
            if not parameter.requires_grad:  # the base model that adapters stand beside
                continue
            name = self._model.checkpoint_name(own_name)
            adam = self._adam_state(parameter)
            tensors[PARAMETERS + name] = parameter.detach()
            tensors |= {f"{moment}.{name}": adam[moment] for moment in _MOMENTS}
            tensors[f"steps.{name}"] = adam["step"]
        return tensors

    def _adam_state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """Before the first step AdamW has none; then it would make this one."""
        state: dict[str, torch.Tensor] = self._optimizer.state[parameter]
        if not state:
            device = parameter.device
            state["step"] = torch.zeros((), dtype=torch.float32, device=device)
            for moment in _MOMENTS:
                state[moment] = torch.zeros_like(parameter.detach())
        return state

    def copy_to_host(self) -> dict[str, torch.Tensor]:
        """A copy that training does not change; the next call overwrites it.

        Its memory is kept between saves: the kernel takes longer to give memory than a copy takes.
        """
        for name, tensor in self._tensors().items():
            if name not in self._copies:
                self._copies[name] = torch.empty_like(tensor, device="cpu")
            _shard(self._copies[name]).copy_(_shard(tensor))
        return self._copies

    def load(self, folder: Path) -> None:
        """Takes over what :class:`StateWriter` wrote, on whatever number of ranks; streams of
        random numbers on ranks that had one. Collective."""
        tensors = self._tensors()
        dcp.load(tensors, storage_reader=dcp.FileSystemReader(folder))
        done = int(tensors[_SCHEDULE])
        self._scheduler.last_epoch = done
        (group,), (peak,) = self._optimizer.param_groups, self._scheduler.base_lrs
        group["lr"] = peak * self._scheduler.lr_lambdas[0](done)
        streams = _streams_file(folder)
        if streams.is_file():
            restore_random_state(json.loads(streams.read_text(encoding="ascii")))


class StateWriter:
    """Writes copied states, one at a time, on a thread of its own.

    Its ranks agree over a process group that nothing else uses, so that training's own collectives
    go on meanwhile. Making one is collective.

    Attributes:
        error: why the present or last save failed; None as long as it did not.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")
        self._thread: threading.Thread | None = None
        self.error: str | None = None

    def begin(
        self,
        tensors: dict[str, torch.Tensor],
        folder: Path,
        before: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        """Starts to write; the one before must have been finished. Collective.

        Args:
            tensors: left alone until :meth:`finish` has returned.
            folder: made.
            before, after: what rank 0 does on the thread, before the tensors and after them.
        """
        assert self._thread is None
        streams = json.dumps(random_state())
        self.error = None

        def prepare() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            _streams_file(folder).write_text(streams, encoding="ascii")
            if dist.get_rank() == 0:
                before()

        def save() -> None:
            writer = dcp.FileSystemWriter(folder)
            dcp.save(tensors, storage_writer=writer, process_group=self._group)

        def write() -> None:
            self.error = self._shared(_attempt(prepare)) or _attempt(save)
            if self.error is None and dist.get_rank() == 0:
                self.error = _attempt(after)

        self._thread = threading.Thread(target=write, name="checkpoint", daemon=True)
        self._thread.start()

    def _shared(self, error: str | None) -> str | None:
        """The first error of any rank: the others would wait for it in vain."""
        errors: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error, group=self._group)
        return next(filter(None, errors), None)

    def finish(self) -> str | None:
        """Waits for the save under way; why it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.error


def _shard(tensor: Any) -> torch.Tensor:
    local: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local


def _streams_file(folder: Path) -> Path:
    return folder / f"random_{dist.get_rank()}.json"


def _attempt(work: Callable[[], object]) -> str | None:
    """Why ``work`` failed, None if it did not."""
    try:
        work()
    except BaseException as error:  # another rank's failure arrives as no Exception
        return _root_cause(error)
    return None


def _root_cause(error: BaseException) -> str:
    """The first failure of any rank, in one line."""
    failures = getattr(error, "failures", None)
    if failures:  # of dcp.CheckpointException: rank to (error, traceback)
        rank, (error, _) = next(iter(failures.items()))
        return f"rank {rank}: {_root_cause(error)}"
    return " ".join(str(error).split()) or type(error).__name__
