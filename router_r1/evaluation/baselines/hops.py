"""Routers of the embedded world that know a question's chain of facts and ask it hop by hop.

What a hop's LLM answers is what the next hop asks about, right or wrong, as for a trained router.
"""

from __future__ import annotations

from collections.abc import Callable

from router_r1.evaluation.answer import Answer, Ask, Call, extract_short_answer
from router_r1.evaluation.baselines.base import Baseline
from router_r1.evaluation.benchmark import Prompt
from router_r1.world.knowledge import Knowledge


class HopRouter(Baseline):
    """Takes a route per question through the pool.

    Args:
        name, kind: of its row.
        knowledge: finds the chain of a question.
        choose: domains of the hops to the LLM for each hop.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        knowledge: Knowledge,
        choose: Callable[[tuple[str, ...]], tuple[str, ...]],
    ) -> None:
        super().__init__(name)
        self.kind = kind
        self._knowledge = knowledge
        self._choose = choose

    async def answer(self, prompt: Prompt, ask: Ask) -> Answer:
        """Asks for each fact in turn; stops where a call fails."""
        hops = self._knowledge.parse(prompt.text)
        if hops is None:
            raise ValueError(f"no question of this world: {prompt.text!r}")
        subject = hops[0].subject
        calls: list[Call] = []
        for turn, (hop, llm) in enumerate(
            zip(hops, self._choose(tuple(hop.domain for hop in hops)), strict=True)
        ):
            query = f"the {hop.relation} of {subject}"
            result = await ask(llm, query)
            calls.append(Call(turn, query, result))
            if result.text is None:
                return Answer("", calls)
            subject = extract_short_answer(result.text)
        return Answer(subject, calls)
