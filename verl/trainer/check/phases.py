"""A phase of a training step as a sum of named parts, and the line that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from verl.utils.checklist import GIB, CheckLine, Verdict, compare_bytes

# The figures are estimates; within this factor of what there is, they leave it open.
ESTIMATE_ERROR = 1.25
_SHOWN = 3  # parts, and keys


@dataclass(frozen=True)
class Part:
    """Bytes that something takes; ``key`` lowers them, empty where none does. ``exact`` sizes
    follow from shapes and settings, the others are estimates."""

    name: str
    size: float
    key: str = ""
    exact: bool = False


@dataclass(frozen=True)
class Phase:
    """What is in memory at the same time."""

    name: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> float:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    @property
    def largest_first(self) -> list[Part]:
        """The parts that take something."""
        return sorted((part for part in self.parts if part.size > 0), key=lambda part: -part.size)

    @property
    def keys(self) -> list[str]:
        """What to change, the largest part's key first."""
        return list(dict.fromkeys(part.key for part in self.largest_first if part.key))

    def line(self, subject: str, have: float | None, tolerance: float = 1.0) -> CheckLine:
        """Whether it fits into ``have`` bytes, for sure or perhaps; see :func:`compare_bytes`."""
        advice = f"change {', '.join(self.keys[:_SHOWN])}" if self.keys else ""
        parts = (f"{part.name} {part.size / GIB:.1f}" for part in self.largest_first[:_SHOWN])
        # If every estimate is too low by its error.
        most = sum(part.size * (1.0 if part.exact else ESTIMATE_ERROR) for part in self.parts)
        line = compare_bytes(f"{subject}: {self.name}", have, self.size, advice, most, tolerance)
        found = f"fits in {line.found}" if line.verdict is Verdict.OK else line.found
        return replace(line, found=found, needed=f"{line.needed}: {', '.join(parts)}")
