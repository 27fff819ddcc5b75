"""The one rule by which every baseline reads a short answer out of an LLM's reply.

The rule: of the sentences of the reply, take the last one with a linking verb (is, are, was,
were); what stands behind that verb is the answer. A reply without one is the answer as a whole.
White space and closing punctuation are dropped. An initial ("J. R. R.") does not end a sentence.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]\"'][.!?])\s+|\n+")
_LINKING_VERB = re.compile(r"\s(?:is|are|was|were):?\s+")
_TRIMMED = " \t\n.!?*\"'"


def extract_short_answer(reply: str) -> str:
    """The short answer in ``reply``; see the module's rule."""
    for sentence in reversed(_SENTENCE_END.split(reply.strip())):
        parts = _LINKING_VERB.split(sentence)
        if len(parts) > 1:
            return parts[-1].strip(_TRIMMED)
    return reply.strip(_TRIMMED)
