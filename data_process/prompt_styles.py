"""Names of the prompt styles, for command lines; the prompts are in prompt_pool."""

STYLES = ("qwen", "llama", "compact")
