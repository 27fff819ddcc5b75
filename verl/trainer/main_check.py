"""``python -m verl.trainer.main_check [--gpus 4x80] [recipe=…] [key=value …]``.

Shows what a run needs against what there is, before anything is paid for. Exit code 0, or 2 if
something is not ok. Nothing is trained and no call is made.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from verl.trainer.check.run_checks import all_lines, show
from verl.trainer.launch import load_task_config, run_as_command
from verl.trainer.machine import Machine
from verl.utils.checklist import Verdict
from verl.utils.console import console


def main(arguments: list[str]) -> None:
    """Checks, prints the table, and exits."""
    parser = argparse.ArgumentParser(
        prog="bash train.sh --check", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--gpus",
        metavar="4x80[,ram=512]",
        help="the machine meant, where it is not this one: GPUs a node x GiB, main memory in GiB",
    )
    parsed, of_the_run = parser.parse_known_args(arguments)
    task_class, config = load_task_config(of_the_run)
    task = task_class(config)
    described = Machine.parse(parsed.gpus) if parsed.gpus else None
    task.surroundings().write_missing_data()
    lines = all_lines(config, task, described)
    show(f"{config.trainer.experiment_name}: what it needs, and what there is", lines)
    counts = Counter(line.verdict for line in lines)
    told = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    console.print(told, highlight=False)
    sys.exit(2 if counts[Verdict.NOT_OK] else 0)


if __name__ == "__main__":
    run_as_command(main)
