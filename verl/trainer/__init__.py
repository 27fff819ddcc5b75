"""Training loops and entry points."""
