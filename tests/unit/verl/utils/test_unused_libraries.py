"""scikit-learn and scipy are not imported with the models, and can be imported after them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from verl.utils.unused_libraries import not_found

SCRIPT = """
import sys
import verl.trainer.ppo.run
assert "verl.workers.fsdp.actor" in sys.modules
assert "transformers.generation.candidate_generator" in sys.modules
assert "transformers.loss.loss_d_fine" in sys.modules
for name in ("sklearn", "scipy"):
    assert name not in sys.modules, name
import sklearn
import scipy.optimize
"""


def test_neither_driver_nor_rank_imports_them() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)


def test_a_library_is_not_found_in_the_block_alone() -> None:
    with pytest.raises(ModuleNotFoundError), not_found("this"):
        import_module("this")
    assert "this" not in sys.modules
    with not_found("json"):
        assert import_module("json").loads("1") == 1, "it was imported before"
