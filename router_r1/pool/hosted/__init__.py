"""Servers of our own that play LLMs of the pool: simulated ones, with faults, and a retriever."""
