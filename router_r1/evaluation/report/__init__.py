"""The evaluation report: one HTML file with tables, charts and a trajectory viewer.

``python -m router_r1.evaluation.report [EVAL_FOLDER]`` writes it from what an evaluation left.
"""

from router_r1.evaluation.report.page import write_report

__all__ = ["write_report"]
