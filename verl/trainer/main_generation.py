"""``python -m verl.trainer.main_generation``: a checkpoint answers an evaluation's prompts.

Takes the overrides of main_ppo; see :class:`verl.config.ppo.EvaluationConfig`.
"""

from __future__ import annotations

from verl.trainer.evaluation.generate import evaluated_model
from verl.trainer.launch import load_task_config, run_as_command


def main(overrides: list[str]) -> None:
    """Generates what is missing of ``trajectories.jsonl``."""
    task_class, config = load_task_config(overrides)
    model_path = evaluated_model(config)
    task = task_class(config)
    # Takes seconds to import, for which nobody waits whose configuration is wrong.
    from verl.trainer.evaluation.run import generate_missing

    generate_missing(config, task, model_path)


if __name__ == "__main__":
    run_as_command(main)
