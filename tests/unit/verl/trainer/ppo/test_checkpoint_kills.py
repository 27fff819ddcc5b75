"""SIGKILL at random moments of a run that saves: nothing older than the last save is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from verl.utils.checkpoints import list_checkpoints

KILLS = 20
KEEP = 2
_SEED = 16

# One process imports what takes seconds; for each word on its standard input it starts a run as a
# fork, which goes on from the newest checkpoint, tells of each step and each whole checkpoint, and
# saves without end.
RUNS = """
import os, random, sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from verl.config.ppo import TrainerConfig
from verl.trainer.ppo.checkpointing import CheckpointSaver
from verl.trainer.ppo.run_state import RunIdentity, RunState
from verl.utils.checkpoints import list_checkpoints, remove_partial_checkpoints
from verl.workers.fsdp.training_state import StateWriter, TrainingState

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(64, 64) for _ in range(2))

    def checkpoint_name(self, name):
        return name

class Role:
    def __init__(self, state):
        self.state, self.writer = state, StateWriter()

    def begin_save(self, folder, export):
        self.writer.begin(self.state.copy_to_host(), Path(folder), lambda: None, lambda: None)

    def save_error(self):
        return [self.writer.error]

    def finish_save(self):
        return [self.writer.finish()]

def run(folder, number, ends):
    store = dist.FileStore(str(folder / f"store_{number}"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    state = TrainingState(model, optimizer, scheduler)
    remove_partial_checkpoints(folder)
    step = 0
    if found := list_checkpoints(folder):
        state.load(found[0].state("actor"))
        step = found[0].read_run_state()["step"]
        assert step == found[0].step == scheduler.last_epoch, "driver and workers agree"
    print("from", step, flush=True)
    config = TrainerConfig(
        default_local_dir=str(folder), max_ckpt_to_keep=KEEP, save_hf="never"
    )
    saver = CheckpointSaver(config, {"actor": Role(state)})
    while True:
        step += 1
        sum(p.square().sum() for p in model.parameters()).backward()
        optimizer.step(), optimizer.zero_grad(), scheduler.step()
        saver.save(RunState(step, RunIdentity({}, 10**9, 1), {}), {"roots": [0.5] * 1000})
        if ends or random.random() < 0.5:
            saver.wait()
            print("whole", step, flush=True)
        if ends:
            os._exit(0)

folder = Path(sys.argv[1])
KEEP = int(sys.argv[2])
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    child = os.fork()
    if child == 0:
        run(folder, number, line == "end\\n")
    print("pid", child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_twenty_kills_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    rng = random.Random(_SEED)
    command = [sys.executable, "-c", RUNS, str(tmp_path), str(KEEP)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def told() -> list[str]:
            assert process.stdout is not None
            return process.stdout.readline().split()

        def begin(word: str) -> tuple[int, int]:
            """The step that the run goes on from, and its process id."""
            print(word, file=process.stdin, flush=True)
            lines = dict([told(), told()])
            return int(lines["from"]), int(lines["pid"])

        assert told() == ["ready"]
        saved = 0
        for kill in range(KILLS):
            first, pid = begin("run")
            assert first >= saved, "it goes on from the last save, or a later one"
            if kill % 4:  # else before its first save may have ended
                saved = int(told()[1])
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(pid, signal.SIGKILL)
            while (line := told()) != ["ended"]:
                saved = int(line[1])
            whole = list_checkpoints(tmp_path)
            assert [checkpoint.resumable for checkpoint in whole] == [True] * len(whole)
            assert not saved or whole[0].step >= saved
        first, _ = begin("end")
        assert told() == ["whole", str(first + 1)]
        assert told() == ["ended"]
        process.stdin.close()
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == sorted(f"global_step_{step}" for step in (first, first + 1)), "and nothing else"
