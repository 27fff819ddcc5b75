"""Domains, relations, entities and facts of the world, and the questions about them.

Guarantees: everything follows from :class:`WorldConfig`; the entities of the train, validation and
test splits are disjoint, as subjects and as answers.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from router_r1.world.config import WorldConfig
from verl.config.validation import ConfigError, require_choice

SPLITS = ("train", "validation", "test")
DOMAINS = ("film", "music", "sport", "science")

# Relations whose answer is a person, by the domain of their subject.
PERSON_RELATIONS = {
    "film": ("director", "producer"),
    "music": ("singer", "composer"),
    "sport": ("captain", "coach"),
    "science": ("founder", "chair"),
}
# Relations that lead from a domain to an entity of another: the first hop of two-hop questions.
BRIDGE_RELATIONS = {
    "film": ("institute", "science"),
    "science": ("documentary", "film"),
    "music": ("club", "sport"),
    "sport": ("anthem", "music"),
}
RELATION_DOMAIN = {
    **{relation: domain for domain, names in PERSON_RELATIONS.items() for relation in names},
    **{relation: domain for domain, (relation, _) in BRIDGE_RELATIONS.items()},
}

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_WORDS_PER_SIDE = 100


@dataclass(frozen=True)
class Hop:
    """One fact asked for: ``relation`` of ``subject`` is ``answer``."""

    domain: str
    relation: str
    subject: str
    answer: str

    @property
    def query(self) -> str:
        """What to ask an LLM."""
        return f"the {self.relation} of {self.subject}"


@dataclass(frozen=True)
class Question:
    """A question with its one right chain of facts."""

    text: str
    hops: tuple[Hop, ...]

    @property
    def answer(self) -> str:
        """The gold answer."""
        return self.hops[-1].answer

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain of each hop."""
        return tuple(hop.domain for hop in self.hops)


def _invented_words(rng: random.Random, pattern: str) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < _WORDS_PER_SIDE:
        letters = (rng.choice(_CONSONANTS if kind == "c" else _VOWELS) for kind in pattern)
        words["".join(letters).capitalize()] = None
    return list(words)


class NameSource:
    """All names of a world, "First Last", of invented words: firsts and lasts share none, and the
    same seed gives the same names in the same order."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"names-{seed}")
        self.firsts, self.lasts = _invented_words(rng, "cvcv"), _invented_words(rng, "cvcvc")
        self._names = [f"{first} {last}" for first in self.firsts for last in self.lasts]
        rng.shuffle(self._names)

    def take(self, count: int) -> list[str]:
        """The next ``count`` names, none of which comes again; a ValueError if fewer are left."""
        if count > len(self._names):
            raise ValueError(f"{count} names wanted, {len(self._names)} of the world's are left")
        taken, self._names = self._names[:count], self._names[count:]
        return taken


# Of the documents: part of the entities that have any, and part of the facts that is told wrong.
_COVERED_SHARE = 0.6
_WRONG_SHARE = 0.1
_QUERY = re.compile(r"the (\w+) of (?:the (\w+) of )?(\w+ \w+)\s*\??$", re.IGNORECASE)


class Knowledge:
    """All facts; ``facts[(relation, subject)]`` is the answer's name."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.names = NameSource(config.seed)
        self.subjects: dict[str, dict[str, list[str]]] = {}
        self.persons: dict[str, list[str]] = {}
        self.split_of: dict[str, str] = {}
        self.facts: dict[tuple[str, str], str] = {}
        for split in SPLITS:
            count = config.train_entities if split == "train" else config.eval_entities
            self.subjects[split] = {domain: self.names.take(count) for domain in DOMAINS}
            self.persons[split] = self.names.take(count * 4)
            self._make_facts(split)

    def _make_facts(self, split: str) -> None:
        rng = random.Random(f"facts-{self.config.seed}-{split}")
        for domain, subjects in self.subjects[split].items():
            bridge, target = BRIDGE_RELATIONS[domain]
            for subject in subjects:
                self.split_of[subject] = split
                for relation in PERSON_RELATIONS[domain]:
                    self.facts[relation, subject] = rng.choice(self.persons[split])
                self.facts[bridge, subject] = rng.choice(self.subjects[split][target])

    def hop(self, relation: str, subject: str) -> Hop:
        """The fact about ``subject``; a KeyError if the world has none."""
        return Hop(RELATION_DOMAIN[relation], relation, subject, self.facts[relation, subject])

    def sample_question(self, split: str, rng: random.Random) -> Question:
        """A random question about the split's entities."""
        domain = rng.choice(DOMAINS)
        subject = rng.choice(self.subjects[split][domain])
        if rng.random() < self.config.two_hop_share:
            bridge, target = BRIDGE_RELATIONS[domain]
            first = self.hop(bridge, subject)
            second = self.hop(rng.choice(PERSON_RELATIONS[target]), first.answer)
            text = f"Who is the {second.relation} of the {bridge} of {subject}?"
            return Question(text, (first, second))
        hop = self.hop(rng.choice(PERSON_RELATIONS[domain]), subject)
        return Question(f"Who is {hop.query}?", (hop,))

    def questions(self, split: str) -> list[Question]:
        """The split's questions, without repetition.

        Raises:
            ConfigError: if the split is unknown or too small for so many questions.
        """
        require_choice("split", split, SPLITS)
        wanted = int(getattr(self.config, f"{split}_questions"))
        rng = random.Random(f"questions-{self.config.seed}-{split}")
        found: dict[str, Question] = {}
        for _ in range(50 * wanted):
            if len(found) == wanted:
                return list(found.values())
            question = self.sample_question(split, rng)
            found.setdefault(question.text, question)
        raise ConfigError(
            f"the {split} split has too few entities for {wanted} questions (found "
            f"{len(found)}); raise world.train_entities or world.eval_entities"
        )

    def documents(self) -> list[str]:
        """What a library would hold of the world, with gaps and errors: a sentence a document, each
        a fact. The same world gives the same documents.
        """
        rng = random.Random(f"corpus-{self.config.seed}")
        subjects = sorted(self.split_of)
        covered = {subject for subject in subjects if rng.random() < _COVERED_SHARE}
        documents = []
        for (relation, subject), answer in sorted(self.facts.items()):
            if subject in covered:
                told = rng.choice(subjects) if rng.random() < _WRONG_SHARE else answer
                documents.append(f"The {relation} of {subject} is {told}.")
        return documents

    def parse(self, query: str) -> tuple[Hop, ...] | None:
        """The chain of facts a query asks for, or None if the world cannot tell."""
        match = _QUERY.search(query.strip())
        if match is None:
            return None
        relation, bridge, subject = match.groups()
        try:
            if bridge is None:
                return (self.hop(relation.lower(), subject),)
            first = self.hop(bridge.lower(), subject)
            return (first, self.hop(relation.lower(), first.answer))
        except KeyError:
            return None
