"""The prompts of the paper's pool; :mod:`router_r1.llm_agent.prompt` makes them."""

from __future__ import annotations

from router_r1.llm_agent.prompt import build_prompt_template
from router_r1.pool.loading import paper_pool

PROMPT_TEMPLATE_QWEN = build_prompt_template("qwen", paper_pool())
PROMPT_TEMPLATE_LLAMA = build_prompt_template("llama", paper_pool())
