"""``python -m verl.trainer.main_export CHECKPOINT [TARGET] [--role critic]``.

Writes the models of a checkpoint's training state as Hugging Face folders, in this process alone.
Without a target they go where ``trainer.save_hf=always`` puts them: into the checkpoint.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from verl.errors import UserError
from verl.utils.checkpoints import state_folder
from verl.utils.command import run_as_command

ROLES = ("actor", "critic")

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Exports; raises :class:`UserError` if the checkpoint does not hold what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m verl.trainer.main_export", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, help="a folder global_step_N")
    parser.add_argument("target", type=Path, nargs="?", help="folder to write; replaced")
    parser.add_argument("--role", choices=ROLES, help="default: the actor; both without a target")
    parsed = parser.parse_args(arguments)
    from verl.workers.fsdp.saving import export_state  # imports torch

    held = [role for role in ROLES if state_folder(parsed.checkpoint, role).is_dir()]
    wanted = [parsed.role] if parsed.role else held if parsed.target is None else ["actor"]
    if not held or not set(wanted) <= set(held):
        raise UserError(
            f"{parsed.checkpoint} holds no training state of {wanted[0] if wanted else 'a model'}; "
            f"it holds: {', '.join(held) or 'none'}"
        )
    for role in wanted:
        target = parsed.target or parsed.checkpoint / role
        export_state(state_folder(parsed.checkpoint, role), target)
        logger.info("wrote %s", target)


if __name__ == "__main__":
    run_as_command(main)
