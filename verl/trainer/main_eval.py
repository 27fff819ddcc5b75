"""``python -m verl.trainer.main_eval``: scores the trajectories that main_generation saved.

Takes the same overrides; starts no engine and makes no call.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from verl.columns import repeated_column
from verl.trainer.evaluation.generate import TRAJECTORIES, evaluated_model
from verl.trainer.evaluation.score import score_folder
from verl.trainer.launch import load_task_config, run_as_command
from verl.utils.checkpoints import load_reward_state


def main(overrides: list[str]) -> None:
    """Writes the scored records and ``results.json``, and lets the task report."""
    task_class, config = load_task_config(overrides)
    task = task_class(config)
    reports = task.reports()
    wanted = config.evaluation
    folder, model_path = Path(wanted.folder), evaluated_model(config)
    reward_function = task.reward()
    load_reward_state(model_path, reward_function)
    facts = {
        "model": str(model_path),
        "sampling": asdict(config.actor_rollout_ref.rollout.val),
        "n_samples": wanted.n_samples,
        **reports.facts(),
    }
    score_folder(
        folder / TRAJECTORIES,
        task.record_class,
        folder,
        reward_function,
        facts,
        repeated_column(task.columns),
        wanted.limit,
        wanted.n_samples,
    )
    reports.evaluation(folder)


if __name__ == "__main__":
    run_as_command(main)
