"""Which tests share a process of ``pytest -n 2``, and in which order they begin.

What is dear to start (a training run, an engine, a cluster) is started once, in one process; any
other file may run in either. The training runs that share one come first: they make the policy that
engines and later runs start with, while the other process runs unit tests.
"""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

UNIT, FILES = "unit", "files"
# In the order in which they begin.
GROUPS: dict[str, tuple[str, ...]] = {
    "runs": (
        "test_training_run",
        "test_disturbed_run",
        "test_evaluation_run",
        "test_run_pages",
        "test_cluster",
    ),
    UNIT: (),
    "engines": (
        "test_serving",
        "test_serving_route",
        "test_serving_page",
        "test_generation",
        "test_commands",
    ),
    FILES: (),
}
# Of the other files those that take longest, in the order in which they begin, so that none is left
# for the end.
LONGEST = (
    "test_weight_sync",
    "test_stopped_runs",
    "test_placement",
    "test_families",
    "test_single_controller",
    "test_fsdp",
    "test_compare",
    "test_checkpoints",
    "test_engine_recovery",
    "test_slurm",
)
_GROUP_OF = {file: group for group, files in GROUPS.items() for file in files}


def group_of(path: PurePath) -> str:
    """The group of a test file."""
    return _GROUP_OF.get(path.stem, UNIT if UNIT in path.parts else FILES)


def order_of(path: PurePath) -> tuple[int, int]:
    """Its place: among the groups, and within one."""
    within = LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST)
    return list(GROUPS).index(group_of(path)), within


class SuiteScheduling(LoadScopeScheduling):
    """Keeps a group together; a file that is in none goes as a whole too."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        group = group_of(PurePath(file))
        return file if group in (UNIT, FILES) else group
