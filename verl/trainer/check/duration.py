"""How long a run takes, by the model of a step's time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from verl.config.ppo import PPOConfig
from verl.forecast import PlannedRun, Work
from verl.trainer.check.gpu_rates import H100, Card, gpu_rates
from verl.trainer.check.models import RoleModel
from verl.trainer.check.step_time import Rates, rollout_time, step_time
from verl.trainer.machine import Machine
from verl.trainer.roles import Roles
from verl.utils.checklist import CheckLine, Verdict


def duration_line(
    config: PPOConfig,
    models: list[RoleModel],
    machine: Machine,
    plan: PlannedRun,
    expected: Callable[[int], Work | None],
) -> CheckLine | None:
    """Hours of a run on GPUs such as ``machine`` has; None where nobody knows its trajectories.

    Args:
        models: of the run, the actor first.
        expected: what so many trajectories are likely to do.
    """
    if expected(1) is None:
        return None
    unknown = CheckLine("hours", Verdict.UNKNOWN, "", advice="the progress line tells them")
    if plan.training is None or plan.steps is None:
        return replace(unknown, found="the number of steps follows from the data files")
    if not machine.gpus:
        return replace(unknown, found="no GPU")
    card = Card.of(H100 if machine.described else machine.gpus[0].name)
    if card is None:
        return replace(unknown, found=f"no rates are known of {machine.gpus[0].name}")
    gpus = config.trainer.ranks
    parts, seconds = [], 0.0
    if plan.steps and (work := expected(plan.training // plan.steps)):
        rates = _rates(config, models[0], card, work)
        step = step_time(_training_work(config, work), rates, gpus, models[0].parameters)
        generating, training = step.rollout.seconds, step.seconds - step.rollout.seconds
        overlapped = config.trainer.async_level > 0
        each = max(generating, training) if overlapped else generating + training
        seconds += plan.steps * each
        parts.append(
            f"{plan.steps} steps of {each:,.0f} s (generating {generating:,.0f}, most of it for "
            f"the {step.rollout.bound}; training {training:,.0f})"
        )
    rounds, rows = plan.validations or 0, plan.validation
    if rounds and rows is None:
        parts.append("validations not counted")
    elif rounds and rows and (work := expected(rows // rounds)):
        each = rollout_time(work, _rates(config, models[0], card, work), gpus).seconds
        seconds += rounds * each
        parts.append(f"{rounds} validations of {each:,.0f} s")
    hours = seconds / 3600
    as_what = f", as {card.name}s" if machine.described else ""
    found = f"about {hours:,.{0 if hours >= 10 else 1}f}{as_what}: {', '.join(parts)}"
    advice = "computed from one H100's rates and usual replies; see docs/scaling.md"
    return CheckLine("hours", Verdict.OK, found, advice=advice)


def _training_work(config: PPOConfig, work: Work) -> Work:
    roles = Roles.of(config)
    updates = config.actor_rollout_ref.actor.ppo_epochs
    if roles.critic:
        updates += config.critic.ppo_epochs
    return replace(work, scorings=1 + roles.reference + roles.critic, updates=updates)


def _rates(config: PPOConfig, actor: RoleModel, card: Card, work: Work) -> Rates:
    rollout = config.actor_rollout_ref.rollout
    return gpu_rates(
        card,
        actor.shape,
        context=work.tokens,
        max_sequences=rollout.max_num_seqs,
        graphs=not rollout.enforce_eager,
        offloads=actor.offloaded,
        sleeps=rollout.free_cache_engine,
    )
