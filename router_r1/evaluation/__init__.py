"""Evaluation of routers: baselines, comparison and reports."""
