"""Evaluation of a policy: trajectories saved as they end, scored later, summed up by dataset."""
