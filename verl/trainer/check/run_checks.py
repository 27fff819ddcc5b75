"""Puts the checks of a run together, all of them for ``--check``, the quick ones for a start, and
shows them as one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from verl.config.ppo import PPOConfig
from verl.config.validation import ConfigError
from verl.errors import UserError
from verl.forecast import PlannedRun
from verl.task import Surroundings, Task
from verl.trainer.check.cluster import inspect_cluster, joins_cluster
from verl.trainer.check.data import load_rows, tokenizer_lines
from verl.trainer.check.duration import duration_line
from verl.trainer.check.memory_lines import memory_lines
from verl.trainer.check.model_shape import ModelConfigError
from verl.trainer.check.models import load_models
from verl.trainer.check.phases import ESTIMATE_ERROR
from verl.trainer.check.software import compute_mode_line, software_lines
from verl.trainer.machine import Machine
from verl.utils.checklist import CheckLine, Verdict, decide, failures
from verl.utils.console import console

_STYLES = {Verdict.OK: "green", Verdict.UNKNOWN: "yellow", Verdict.NOT_OK: "bold red"}


class ChecksFailedError(UserError):
    """The machine lacks what the run needs."""


def all_lines(config: PPOConfig, task: Task, described: Machine | None) -> list[CheckLine]:
    """Every check, of this machine or of one that the user describes; raises :class:`ConfigError`
    if one with GPUs is described for a run on the CPU."""
    if described is not None and config.trainer.device == "cpu":
        raise ConfigError("--gpus has no meaning for a run with trainer.device=cpu")
    lines, sets = load_rows(config, task)
    rows = {name: len(data) for name, data in sets.items()}
    plan = PlannedRun.of(config, rows.get("train"), rows.get("validation"))
    surroundings = task.surroundings()
    first_policy = surroundings.first_policy_config()
    lines += tokenizer_lines(config, sets, policy_is_made=first_policy is not None)
    if described is None and joins_cluster(config.ray):
        cluster_lines, machine = inspect_cluster(config)
        lines += cluster_lines
    else:
        machine = described or Machine.here()
        lines += _cpu_lines(config, machine)
    if machine is not None:
        device = choose_device(config, machine)
        try:
            models = load_models(config, first_policy)
        except ModelConfigError as error:
            advice = "download the model, or change actor_rollout_ref.model.path"
            unknown = Verdict.UNKNOWN
            lines.append(CheckLine("memory, disk", unknown, str(error), "model config", advice))
        else:
            lines += memory_lines(config, models, device, machine, plan.steps)
            if device == "cuda":
                hours = duration_line(config, models, machine, plan, surroundings.expected_work)
                lines += [hours] if hours else []
        lines += software_lines(machine) if device == "cuda" else []
    return lines + surroundings.check_lines(plan)


def refuse_what_cannot_work(
    config: PPOConfig, surroundings: Surroundings, total_steps: int | None
) -> None:
    """The quick checks at a run's start; silent where nothing is wrong.

    Memory figures are estimates: a run is refused only for what is beyond their error.

    Raises:
        ChecksFailedError: if the machine lacks what the run needs, after a table of it.
    """
    if joins_cluster(config.ray):  # what this machine has says nothing of the cluster's nodes
        return
    machine = Machine.here()
    device = choose_device(config, machine)
    if device == "cuda" and not machine.gpus:  # why there is none, the device's own probe says
        return
    try:
        models = load_models(config, surroundings.first_policy_config())
    except ModelConfigError:  # what cannot be had is told when it is loaded
        lines = []
    else:
        lines = memory_lines(config, models, device, machine, total_steps, ESTIMATE_ERROR)
    if device == "cuda":
        lines.append(compute_mode_line([gpu.compute_mode for gpu in machine.gpus]))
    if failed := failures(lines):
        show("This run cannot work here", failed)
        raise ChecksFailedError(
            f"{len(failed)} of {len(lines)} checks failed: "
            f"{'; '.join(line.subject for line in failed)}; --check shows all"
        )


def choose_device(config: PPOConfig, machine: Machine) -> str:
    """ "auto" is "cuda" where the machine has a GPU."""
    if config.trainer.device != "auto":
        return config.trainer.device
    return "cuda" if machine.gpus else "cpu"


def _cpu_lines(config: PPOConfig, machine: Machine) -> list[CheckLine]:
    """Ray's CPUs on this machine: a rank takes one, with a GPU as well."""
    if machine.cpus is None:
        return []
    ranks = config.trainer.ranks
    slots = config.ray.num_cpus or max(machine.cpus, ranks)
    found = f"{slots}, on {machine.cpus} cores"
    advice = "change ray.num_cpus or trainer.n_gpus_per_node"
    return [decide(slots >= ranks, "Ray CPUs", found, str(ranks), advice)]


def show(title: str, lines: Sequence[CheckLine]) -> None:
    """Prints every line, then the advice of those that have one, on lines of their own so that
    keys can be copied; what is not ok comes last, next to the prompt."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("check", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("there is", overflow="fold")
    table.add_column("needed", overflow="fold")
    for line in lines:
        mark = Text(line.verdict.value, style=_STYLES[line.verdict])
        table.add_row(Text(line.subject), mark, Text(line.found), Text(line.needed))
    console.print(table)
    for verdict, style in _STYLES.items():
        for line in lines:
            if line.advice and line.verdict is verdict:
                text = Text.assemble((line.subject, style), ": ", line.advice)
                console.print(text, soft_wrap=True)
