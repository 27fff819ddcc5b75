"""What is read from a machine, and how one is described."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.trainer.machine import Machine, MachineFormError, free_disk, read_gpus
from verl.utils.checklist import GIB

NVIDIA_SMI = """\
0, GPU-aaaa1111, NVIDIA A100-SXM4-80GB, 81920, 0, 535.104.05, Default
1, GPU-bbbb2222, NVIDIA A100-SXM4-80GB, 81920, 40960, 535.104.05, Exclusive_Process
2, GPU-cccc3333, NVIDIA A100-SXM4-40GB, 40960, 0, 535.104.05, Default
3, GPU-dddd4444, NVIDIA H100 (split), [N/A], [N/A], 535.104.05, Default
"""


@pytest.mark.parametrize(
    ("visible", "sizes"),
    [
        (None, [80, 80, 40]),
        ("2,0", [40, 80]),
        ("GPU-cccc3333,GPU-aaaa", [40, 80]),
        ("0,7,1", [80]),
        ("", []),
    ],
)
def test_only_visible_cards_count(visible: str | None, sizes: list[int]) -> None:
    assert [gpu.total_bytes / GIB for gpu in read_gpus(NVIDIA_SMI, visible)] == sizes


def test_a_cards_state_is_read() -> None:
    gpu = read_gpus(NVIDIA_SMI, "1")[0]
    assert gpu.used_bytes == 40 * GIB
    assert (gpu.driver, gpu.compute_mode) == ("535.104.05", "Exclusive_Process")


def test_a_machine_is_described_in_words() -> None:
    machine = Machine.parse("4x80,ram=512")
    assert [round(gpu.total_bytes / GIB, 1) for gpu in machine.gpus] == [78.8] * 4
    assert machine.ram_bytes == 512 * GIB
    assert Machine.parse("8x24").ram_bytes is None
    for wrong in ("80", "0x80", "4x", "4x80,disk=3", "4 x 80"):
        with pytest.raises(MachineFormError, match="4x80"):
            Machine.parse(wrong)


def test_this_machine_is_read() -> None:
    machine = Machine.here()
    assert machine.ram_bytes is not None
    assert machine.ram_bytes > GIB
    assert machine.cpus
    assert free_disk(Path("no/such/folder")) > 0
