"""The embedded benchmark: a synthetic world of facts, simulated LLMs and a known best router."""
