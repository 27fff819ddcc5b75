"""What the command line finds in the repository: scripts, recipes, pools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from verl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def recipes() -> dict[str, str]:
    """Name of each recipe, and what the first sentence of its file says."""
    return {
        path.stem: _first_sentence(path)
        for path in sorted((ROOT / "configs/recipe").glob("*.yaml"))
    }


def pools() -> list[str]:
    """Names of the pools."""
    return [path.stem for path in sorted((ROOT / "configs/pool").glob("*.yaml"))]


def _first_sentence(file: Path) -> str:
    lines = file.read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    text = " ".join(line for line in comments if not line.startswith("@"))
    return text.split(". ")[0].split(":")[0].rstrip(".")


def run_script(script: tuple[str, ...], arguments: list[str]) -> NoReturn:
    """Becomes a script of the repository, which works on the folder where we are; raises
    :class:`UserError` if this is no repository: without it there are no recipes either."""
    file = ROOT / script[0]
    if not file.is_file():
        raise UserError(
            f"no {file}: router-r1 runs from a clone of its repository; install it there with "
            "bash scripts/setup.sh"
        )
    environment = {**os.environ, "ROUTER_R1_WORKING_FOLDER": os.getcwd()}
    os.execvpe("bash", ["bash", str(file), *script[1:], *arguments], environment)
