"""An outcome of one's own: another LLM says whether an answer is right."""
