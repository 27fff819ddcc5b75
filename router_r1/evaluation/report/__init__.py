"""The evaluation report: one HTML file with tables, charts and a trajectory viewer."""
