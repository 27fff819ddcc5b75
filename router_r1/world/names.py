"""Names of entities: two invented words, drawn without repetition from a seeded list.

Guarantees: a name is "First Last"; firsts and lasts share no word; the same seed gives the same
names in the same order; no two calls of :meth:`NameSource.take` return the same name.
"""

from __future__ import annotations

import random

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
WORDS_PER_SIDE = 100


def _invented_words(rng: random.Random, pattern: str, count: int, taken: set[str]) -> list[str]:
    words: list[str] = []
    while len(words) < count:
        letters = (rng.choice(_CONSONANTS if kind == "c" else _VOWELS) for kind in pattern)
        word = "".join(letters).capitalize()
        if word not in taken:
            taken.add(word)
            words.append(word)
    return words


class NameSource:
    """All names of a world."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"names-{seed}")
        taken: set[str] = set()
        self.firsts = _invented_words(rng, "cvcv", WORDS_PER_SIDE, taken)
        self.lasts = _invented_words(rng, "cvcvc", WORDS_PER_SIDE, taken)
        self._names = [f"{first} {last}" for first in self.firsts for last in self.lasts]
        rng.shuffle(self._names)

    def take(self, count: int) -> list[str]:
        """The next ``count`` names.

        Raises:
            ValueError: if fewer are left.
        """
        if count > len(self._names):
            raise ValueError(f"{count} names wanted, {len(self._names)} of the world's are left")
        taken, self._names = self._names[:count], self._names[count:]
        return taken
