"""``python -m verl.trainer.main_ppo [recipe=…] [key=value …]``: PPO or GRPO training."""

from __future__ import annotations

import time

from verl.trainer.launch import load_task_config, run_as_command


def main(overrides: list[str]) -> int:
    """Composes, validates, trains, and lets the task make its end table; the exit code."""
    start = time.monotonic()
    task_class, config = load_task_config(overrides)
    task = task_class(config)
    # Takes seconds to import, for which nobody waits whose configuration is wrong.
    from verl.trainer.ppo.run import train

    return train(config, task, start)


if __name__ == "__main__":
    run_as_command(main)
