"""What a table of an evaluation is: made once, shown on the terminal or in a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import table as rich

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
_KIND_STYLES = {"router": "bold green", "prompt": "cyan", "oracle": "yellow", "learned": "blue"}


class Card(NamedTuple):
    """A large figure with what it is, a note below it and a hint on hover."""

    title: str
    value: str
    note: str
    hint: str = ""


class Cell(NamedTuple):
    """A text, what stands small below it, and its CSS class."""

    text: str
    small: str = ""
    style: str = ""


class Line(NamedTuple):
    """A row of a table: its head, with ``small`` below it and ``badge`` behind it, and the cells.

    ``style`` is a CSS class, of which the terminal makes ``total`` bold; ``mark`` is that of a
    patch of colour before the name; where ``kind`` changes, the terminal draws a line.
    """

    name: str
    cells: Sequence[str | Cell]
    style: str = ""
    small: str = ""
    mark: str = ""
    badge: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``columns`` are the titles, the first that of the names, with explanations."""

    title: str
    columns: Mapping[str, str]
    lines: Sequence[Line]
    caption: str = ""

    def on_terminal(self) -> rich.Table:
        """For :mod:`rich`."""
        table = rich.Table(title=self.title, title_justify="left", caption_justify="left")
        table.caption = self.caption or None
        for number, title in enumerate(self.columns):
            table.add_column(title, justify="right" if number else "left", overflow="fold")
        for line, below in zip(self.lines, [*self.lines[1:], None], strict=True):
            texts = []
            for cell in (Cell(line.name, line.small), *line.cells):
                text, small = (cell, "") if isinstance(cell, str) else cell[:2]
                texts.append(f"{text}\n[dim]{small}[/]" if small else text)
            style = "bold" if line.style == "total" else _KIND_STYLES.get(line.kind, "")
            ends = below is not None and below.kind != line.kind
            table.add_row(*texts, style=style, end_section=ends)
        return table


def or_dash(value: float | None, form: Callable[[float], str]) -> str:
    """A dash for a figure that is not there."""
    return DASH if value is None or math.isnan(value) else form(value)
