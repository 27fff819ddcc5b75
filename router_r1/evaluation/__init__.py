"""Scores, baselines, reports: is the router better than the alternatives, and at what cost."""
