"""Routers scored on a table of recorded outcomes, without a call."""
