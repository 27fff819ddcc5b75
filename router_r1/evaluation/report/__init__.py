"""The evaluation report: one HTML file with tables, charts and a trajectory viewer.

``python -m router_r1.evaluation.report [EVAL_FOLDER]`` writes it from what an evaluation left.
:func:`write_report` is imported when it is first asked for, so that the command's help need not
wait for the libraries that the page is made with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router_r1.evaluation.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    if name == "write_report":
        from router_r1.evaluation.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
