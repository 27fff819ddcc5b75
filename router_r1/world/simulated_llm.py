"""What the simulated LLMs reply.

Guarantees: a reply is a pure function of (world seed, LLM, query); over queries of one domain an
LLM is right with its reliability there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from router_r1.pool.hosted.server import SimulatedReply
from router_r1.world.config import WorldConfig
from router_r1.world.knowledge import Hop, Knowledge
from router_r1.world.llms import EMBEDDED_LLMS, find_llms, visible_tokens

UNKNOWN_REPLY = "I do not know."
_EMBEDDED_NAMES = tuple(llm.name for llm in EMBEDDED_LLMS)


class World:
    """Facts, and LLMs that know some of them; what one replies does not depend on the others.

    Raises:
        ConfigError: if no simulated LLM has a name.
        KeyError: from :meth:`reply`, for an LLM that the world does not have.
    """

    def __init__(self, config: WorldConfig, llms: Iterable[str] = _EMBEDDED_NAMES) -> None:
        self.config = config
        self.knowledge = Knowledge(config)
        self.llms = find_llms(llms)

    def reply(self, llm: str, query: str) -> SimulatedReply:
        """What ``llm`` says to ``query``; a whole two-hop question needs both hops right."""
        model = self.llms[llm]
        query = query.strip()
        hops = self.knowledge.parse(query)
        if hops is None:
            text = UNKNOWN_REPLY
        else:
            right = all(
                self._uniform(llm, query, f"right-{i}") < model.reliability[hop.domain]
                for i, hop in enumerate(hops)
            )
            answer = hops[-1].answer if right else self._wrong_answer(llm, query, hops[-1])
            text = told(query.removesuffix("?").strip(), answer)
        least, most = model.hidden_tokens
        hidden = least + int(self._uniform(llm, query, "tokens") * (most - least + 1))
        fast, slow = model.latency_s
        return SimulatedReply(
            text=text,
            prompt_tokens=visible_tokens(query),
            completion_tokens=visible_tokens(text) + hidden,
            latency_s=fast + self._uniform(llm, query, "latency") * (slow - fast),
        )

    def _wrong_answer(self, llm: str, query: str, hop: Hop) -> str:
        """Another name of the same kind and split that shares no word with the right one."""
        split = self.knowledge.split_of[hop.subject]
        kinds = (self.knowledge.persons[split], *self.knowledge.subjects[split].values())
        names = next(names for names in kinds if hop.answer in names)
        start = int(self._uniform(llm, query, "wrong") * len(names))
        right_words = set(hop.answer.split())
        for name in (*names[start:], *names[:start]):
            if right_words.isdisjoint(name.split()):
                return name
        raise ValueError(f"every name of the split shares a word with {hop.answer!r}")

    def _uniform(self, *key: str) -> float:
        text = "\x1f".join((str(self.config.seed), *key))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def told(query: str, answer: str) -> str:
    """A reply that answers a query."""
    return f"The {query.removeprefix('the ').removeprefix('The ')} is {answer}."
