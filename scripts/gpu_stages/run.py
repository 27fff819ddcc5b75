"""Runs one stage in this process: ``python -m gpu_stages.run STAGE --device D --output FILE``."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from gpu_stages import STAGES
from verl.utils.files import write_text


class Figures:
    """Keeps figures and writes them to a file after each, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._figures: dict[str, Any] = {}

    def record(self, name: str, value: Any) -> None:
        """Notes one figure."""
        self._figures[name] = value
        write_text(self._path, json.dumps(self._figures, indent=1) + "\n")
        logging.info("%s: %s", name, value)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("--device", required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    name = arguments.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    stage = STAGES[arguments.stage]
    module = importlib.import_module(f"gpu_stages.{stage.module}")
    torch.manual_seed(0)
    figures = Figures(arguments.output)
    figures.record("card", torch.cuda.get_device_name(0) if name == "cuda" else "cpu")
    module.run(torch.device(name), figures.record, **stage.arguments)


if __name__ == "__main__":
    sys.exit(main())
