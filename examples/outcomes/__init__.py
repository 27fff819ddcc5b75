"""A table of recorded outcomes, made without a server."""
