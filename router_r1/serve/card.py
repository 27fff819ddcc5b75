"""The model's card: what is served, and for whom wants to ask it, what it can ask."""

from __future__ import annotations

from itertools import chain
from typing import Any

from router_r1.inference.settings import RouterSettings
from router_r1.world.knowledge import Knowledge, Question

_EXAMPLES = 8


def model_card(name: str, created: int, settings: RouterSettings) -> dict[str, Any]:
    """An entry of ``/v1/models``.

    Beside the API's own fields: ``router.llms``, the LLMs that the router is offered, with
    descriptors and prices ($ per 1M tokens), ``router.route_tag``, the tag with which it asks one,
    ``router.cost_coe``, what cost counts for who does not say it (null for a router that is not
    told), and ``router.examples``, questions that it can be tried with and their answers. Only the
    embedded world has examples.
    """
    pool = settings.pool
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "router-r1",
        "router": {
            "route_tag": settings.tags.route,
            "cost_coe": settings.cost_coe,
            "llms": [
                {
                    "name": llm.name,
                    "descriptor": llm.described,
                    "prompt_price": llm.prompt_price,
                    "completion_price": llm.completion_price,
                }
                for llm in pool.offered
            ],
            "examples": [
                {"question": question.text, "answer": question.answer}
                for question in (_examples(settings) if pool.simulated else ())
            ],
        },
    }


def _examples(settings: RouterSettings) -> list[Question]:
    """Test questions, those that need two calls and those that need one in turn."""
    questions = Knowledge(settings.world).questions("test")
    hard = [question for question in questions if len(question.hops) > 1]
    easy = [question for question in questions if len(question.hops) == 1]
    return list(chain.from_iterable(zip(hard, easy, strict=False)))[:_EXAMPLES]
