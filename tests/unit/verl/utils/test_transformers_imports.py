"""scikit-learn is not imported with the models, and can be imported after them."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import {module}
assert "transformers.generation.candidate_generator" in sys.modules
assert "sklearn" not in sys.modules
import sklearn
"""


@pytest.mark.parametrize("module", ["verl.trainer.main_ppo", "verl.workers.rollout.vllm_replica"])
def test_neither_driver_nor_engine_imports_scikit_learn(module: str) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT.format(module=module)], check=True)
