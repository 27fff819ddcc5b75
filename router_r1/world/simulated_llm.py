"""The simulated LLMs: what each is good at, and what it replies.

Guarantees: a reply is a pure function of (world seed, LLM, query); over queries of one domain an
LLM is right with its reliability there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from router_r1.pool.hosted.server import SimulatedReply
from router_r1.world.config import WorldConfig
from router_r1.world.knowledge import Hop, Knowledge

UNKNOWN_REPLY = "I do not know."


@dataclass(frozen=True)
class SimulatedLLM:
    """One model of the pool.

    Attributes:
        name: as in the prompt.
        reliability: probability of a right reply, by domain.
        hidden_tokens: least and most tokens billed beside the visible ones (reasoning that the
            caller pays for and does not see).
        latency_s: least and most seconds to answer.
    """

    name: str
    reliability: dict[str, float]
    hidden_tokens: tuple[int, int]
    latency_s: tuple[float, float]

    def mean_completion_tokens(self) -> float:
        """Expected billed tokens of a reply that names an entity."""
        return sum(self.hidden_tokens) / 2 + _visible_tokens("The x of x x is x x.")


def _specialist(*domains: str, at: float, elsewhere: float) -> dict[str, float]:
    return {d: at if d in domains else elsewhere for d in ("film", "music", "sport", "science")}


# No LLM is good at both hops of a two-hop question (film-science, music-sport); every domain has a
# dear best LLM and a cheap one nearly as good. Both divide the domains alike: were they divided in
# two ways, whichever way training found first would decide between dear and cheap, not the reward.
SIMULATED_LLMS = (
    SimulatedLLM("Atlas", _specialist(at=0, elsewhere=0.5), (34, 46), (0.010, 0.030)),
    SimulatedLLM(
        "Borealis", _specialist("film", "music", at=0.98, elsewhere=0.08), (38, 50), (0.010, 0.040)
    ),
    SimulatedLLM(
        "Corvus", _specialist("sport", "science", at=0.98, elsewhere=0.08), (38, 50), (0.010, 0.040)
    ),
    SimulatedLLM(
        "Draco", _specialist("film", "music", at=0.95, elsewhere=0.08), (8, 14), (0.005, 0.015)
    ),
    SimulatedLLM(
        "Electra", _specialist("sport", "science", at=0.95, elsewhere=0.08), (8, 14), (0.005, 0.015)
    ),
    SimulatedLLM("Fornax", _specialist(at=0, elsewhere=0.12), (4, 8), (0.002, 0.008)),
)


class World:
    """Facts and the LLMs that know some of them.

    Raises:
        KeyError: from :meth:`reply`, for an LLM that the world does not have.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.knowledge = Knowledge(config)
        self.llms = {llm.name: llm for llm in SIMULATED_LLMS}

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
            subject = query.removesuffix("?").strip().removeprefix("the ")
            text = f"The {subject.removeprefix('The ')} is {answer}."
        least, most = model.hidden_tokens
        hidden = least + int(self._uniform(llm, query, "tokens") * (most - least + 1))
        fast, slow = model.latency_s
        return SimulatedReply(
            text=text,
            prompt_tokens=_visible_tokens(query),
            completion_tokens=_visible_tokens(text) + hidden,
            latency_s=fast + self._uniform(llm, query, "latency") * (slow - fast),
        )

    def _wrong_answer(self, llm: str, query: str, hop: Hop) -> str:
        """Another name of the same kind and split that shares no word with the right one."""
        knowledge = self.knowledge
        split = knowledge.split_of[hop.subject]
        domain = knowledge.subjects[split]
        is_person = hop.answer in set(knowledge.persons[split])
        names = knowledge.persons[split] if is_person else _all_of_kind(domain, hop.answer)
        start = int(self._uniform(llm, query, "wrong") * len(names))
        right_words = set(hop.answer.split())
        for offset in range(len(names)):
            name = names[(start + offset) % len(names)]
            if right_words.isdisjoint(name.split()):
                return name
        raise ValueError(f"every name of the split shares a word with {hop.answer!r}")

    def _uniform(self, *key: str) -> float:
        text = "\x1f".join((str(self.config.seed), *key))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def _all_of_kind(subjects: dict[str, list[str]], name: str) -> list[str]:
    return next(names for names in subjects.values() if name in names)


def _visible_tokens(text: str) -> int:
    return len(text.split())
