"""Retrieval in the loop in the manner of Search-R1 (Jin et al., 2025), without a trained reader.

The retriever is a member of the pool like any other. Who reads its passages:

* an LLM of the pool, if one is named: it gets them before the question, once;
* else a rule, for a corpus of plain statements: if the first passage says "X is Y" and X stands in
  the question, Y takes the place of X and the question, now shorter, is searched again; the last Y
  is the answer.
"""

from __future__ import annotations

import re

from router_r1.evaluation.answer import Answer, Ask, Call, extract_short_answer
from router_r1.evaluation.baselines.base import Baseline
from router_r1.evaluation.benchmark import Prompt

_STATEMENT = re.compile(r"(?:the\s+)?(?P<subject>.+?)\s+(?:is|are|was|were)\s", re.IGNORECASE)
_QUESTION_WORDS = 2
_MAX_TURNS = 3


class RetrievalLoop(Baseline):
    """Searches with the pool member ``retriever``, and reads what it finds: the LLM ``reader``
    does, or, if it is None, the rule, in at most 3 searches a question."""

    kind = "retrieval"

    def __init__(self, retriever: str, reader: str | None = None) -> None:
        reading = f"{retriever}, {reader}" if reader else retriever
        super().__init__(f"retrieval ({reading})")
        self._retriever, self._reader = retriever, reader

    async def answer(self, prompt: Prompt, ask: Ask) -> Answer:
        """Searches, and reads what was found."""
        if self._reader is None:
            return await self._read_by_rule(prompt, ask)
        found = await ask(self._retriever, prompt.text)
        query = f"{found.text}\n\n{prompt.text}" if found.text else prompt.text
        read = await ask(self._reader, query)
        calls = [Call(0, prompt.text, found), Call(1, query, read)]
        return Answer(extract_short_answer(read.text) if read.text else "", calls)

    async def _read_by_rule(self, prompt: Prompt, ask: Ask) -> Answer:
        """Searches until a passage no longer shortens the question."""
        query, answer = prompt.text, ""
        calls: list[Call] = []
        for turn in range(_MAX_TURNS):
            result = await ask(self._retriever, query)
            calls.append(Call(turn, query, result))
            if not result.text:
                break
            passage = result.text.splitlines()[0]
            rest = substitute(query, passage)
            if rest is None:
                # What was found before fits; a passage that does not match adds nothing to it.
                answer = answer or extract_short_answer(passage)
                break
            answer, query = extract_short_answer(passage), rest
            if len(rest.split()) <= len(answer.split()) + _QUESTION_WORDS:
                break  # "Who is Y?": nothing is left to look up
        return Answer(answer, calls)


def substitute(question: str, passage: str) -> str | None:
    """``question`` with what ``passage`` is about replaced by what it says; None if not in it."""
    match = _STATEMENT.match(passage)
    if match is None:
        return None
    subject = re.compile(rf"(?:the\s+)?\b{re.escape(match['subject'])}\b", re.IGNORECASE)
    answer = extract_short_answer(passage)
    rest, count = subject.subn(lambda _: answer, question, count=1)
    return rest if count else None
