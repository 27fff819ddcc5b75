"""The embedded world as documents: what a library would hold of it, with gaps and errors.

Guarantees: the same world gives the same corpus; a share of the entities has no document at all,
and a share of the facts is told wrong.
"""

from __future__ import annotations

import random

from router_r1.world.knowledge import Knowledge

ENTITY_SHARE = 0.6
WRONG_SHARE = 0.1


def world_corpus(knowledge: Knowledge) -> list[str]:
    """One sentence a document: a fact of an entity that the corpus covers."""
    rng = random.Random(f"corpus-{knowledge.config.seed}")
    subjects = sorted(knowledge.split_of)
    covered = {subject for subject in subjects if rng.random() < ENTITY_SHARE}
    documents = []
    for (relation, subject), answer in sorted(knowledge.facts.items()):
        if subject not in covered:
            continue
        told = rng.choice(subjects) if rng.random() < WRONG_SHARE else answer
        documents.append(f"The {relation} of {subject} is {told}.")
    return documents
