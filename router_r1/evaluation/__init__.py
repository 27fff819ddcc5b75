"""Judging routers: baselines, comparisons and reports."""
