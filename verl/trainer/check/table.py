"""The lines of a check as one table, and below it what to change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from verl.utils.checklist import CheckLine, Verdict
from verl.utils.console import console

_STYLES = {Verdict.OK: "green", Verdict.UNKNOWN: "yellow", Verdict.NOT_OK: "bold red"}


def show(title: str, lines: Sequence[CheckLine]) -> None:
    """Prints every line, then the advice of those that have one, on lines of their own so that
    keys can be copied; what is not ok comes last, next to the prompt."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("check", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_column("there is", overflow="fold")
    table.add_column("needed", overflow="fold")
    for line in lines:
        mark = Text(line.verdict.value, style=_STYLES[line.verdict])
        table.add_row(Text(line.subject), mark, Text(line.found), Text(line.needed))
    console.print(table)
    for verdict, style in _STYLES.items():
        for line in lines:
            if line.advice and line.verdict is verdict:
                text = Text.assemble((line.subject, style), ": ", line.advice)
                console.print(text, soft_wrap=True)
