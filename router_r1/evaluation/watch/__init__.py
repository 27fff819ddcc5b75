"""A local page that follows a training run: ``python -m router_r1.evaluation.report --watch``."""
