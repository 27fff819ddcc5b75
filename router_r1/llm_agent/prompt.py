"""The policy's prompt: templates with a ``{question}`` field; the pool file describes the LLMs.

A router of several weights of cost is told a question's in its prompt, in a ``{cost_coe}`` field.

Three styles: ``qwen`` and ``llama`` for instruction-tuned models, ``compact`` for the embedded
world's tiny policy, which cannot follow instructions and learns the task from its cold start.
"""

from __future__ import annotations

import math

import numpy as np

from router_r1.llm_agent.question_limit import QuestionLimit
from router_r1.pool.config import LLMConfig, PoolConfig
from router_r1.tags import DEFAULT_TAGS, Tags
from verl.config.validation import require_choice

STYLES = ("qwen", "llama", "compact")

_INSTRUCTION_TEMPLATE = """\
Your task is to answer a question, with the help of other language models where you need it.

Think first: whenever you receive new information, reason about it between <think> and </think>. \
If you find that you lack knowledge, ask one of the language models listed below by writing
<{route}> LLM-Name:Your-Query </{route}>
{rules}
Rules for a call; a call that breaks one is not answered:
- Put the exact name of one model from the list in the place of LLM-Name.
- Put a concrete question of your own in the place of Your-Query, one whose answer helps to solve \
the original question.
- Never copy a model's description into a call, and never write LLM-Name or Your-Query literally.

Before each call, explain inside <think> what information is missing and which model is best \
placed to give it. The reply comes back between <information> and </information>. You need not \
stay with one model: several calls, to several models, are welcome.

The language models:
{descriptors}

When nothing more is needed, give the final answer between <answer> and </answer>, without any \
explanation, for example: <answer> Mount Everest </answer>

{preference}{limit}Question: {{question}}"""

_INSTRUCTION_PREFERENCE = """\
Calls cost money. How much their cost counts for this question beside a right answer, from 0 (not \
at all) to 1 (nothing else counts): {cost_coe}

"""

_INSTRUCTION_LIMIT = """\
For this question your calls may come to at most {amounts}. A call that might exceed this is not \
answered.

"""

_LLAMA_RULE = (
    "Do not write the think tags as a visible literal without content: every <think> block holds "
    "real reasoning.\n"
)

# As short as it can be: most tokens of the embedded world's trajectories are prompt.
_COMPACT_TEMPLATE = """\
Answer the question; to call an LLM write <{route}> Name: query</{route}>. LLMs: {descriptors}.
{preference}{limit}Question: {{question}}"""
_COMPACT_PREFERENCE = "Cost counts {cost_tenths} of 10.\n"


def build_prompt_template(
    style: str,
    pool: PoolConfig,
    tags: Tags = DEFAULT_TAGS,
    state_cost_coe: bool = False,
    state_prices: bool = False,
    limit: QuestionLimit | None = None,
) -> str:
    """The template of a style for a pool; :func:`fill` puts a question in.

    Args:
        state_cost_coe: whether the prompt says what cost counts for the question.
        state_prices: whether it says what each LLM costs and how long it takes; the compact style
            says the price alone.

    Raises:
        ConfigError: for a style that is not among :data:`STYLES`.
    """
    require_choice("prompt style", style, STYLES)
    amounts = [] if limit is None else _amounts(limit)
    if style == "compact":
        return _COMPACT_TEMPLATE.format(
            route=tags.route,
            descriptors=", ".join(_compact_line(llm, state_prices) for llm in pool.offered),
            preference=_COMPACT_PREFERENCE if state_cost_coe else "",
            limit="".join(f"At most {amount}.\n" for amount in amounts),
        )
    return _INSTRUCTION_TEMPLATE.format(
        route=tags.route,
        rules=_LLAMA_RULE if style == "llama" else "",
        descriptors="\n".join(
            f"- {llm.name}: {llm.described}" + (f" ({llm.priced})" if state_prices else "")
            for llm in pool.offered
        ),
        preference=_INSTRUCTION_PREFERENCE if state_cost_coe else "",
        limit=_INSTRUCTION_LIMIT.format(amounts=" and ".join(amounts)) if amounts else "",
    )


def _compact_line(llm: LLMConfig, states_price: bool) -> str:
    line = f"{llm.name} {llm.described}"
    if not states_price:
        return line
    # To one significant digit, such as "0.03", "3" or "30"; and before the name: a model of two
    # layers sees in a name what stands before it.
    price = llm.completion_price
    return f"${np.format_float_positional(price, precision=1, fractional=False, trim='-')} {line}"


def _amounts(limit: QuestionLimit) -> list[str]:
    """What the calls of a question may come to, in words."""
    amounts = []
    if limit.calls is not None:
        amounts.append(f"{limit.calls} call{'s' if limit.calls > 1 else ''}")
    if limit.usd is not None:
        # All its digits: the loop keeps what is said.
        amounts.append(f"${np.format_float_positional(limit.usd, trim='-')}")
    return amounts


def fill(template: str, question: str, cost_coe: float | None = None) -> str:
    """Puts the question in, and what cost counts for it where the template asks for that; braces
    elsewhere in template or question are left alone."""
    if cost_coe is not None:
        template = template.replace("{cost_coe}", f"{cost_coe:.2f}".rstrip("0").rstrip("."))
        template = template.replace("{cost_tenths}", str(cost_tenths(cost_coe)))
    return template.replace("{question}", question)


def cost_tenths(cost_coe: float) -> int:
    """The weight of cost as the compact style says it, one word of the tiny policy's; halves of a
    tenth are rounded up."""
    return math.floor(10 * cost_coe + 0.5)
