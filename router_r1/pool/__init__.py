"""The routing pool: which LLMs there are, how they are called, what they cost."""
