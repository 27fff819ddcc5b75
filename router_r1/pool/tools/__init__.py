"""Members of a pool that are no LLMs: they answer in this process, without an endpoint or a key."""
