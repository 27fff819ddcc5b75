"""Which text is the policy's turn, where tokens and turns do not end together.

Guarantees: text only is cut or completed here; the trajectory's ids stay what the engine saw and
sampled.
"""

from __future__ import annotations

import re

STOP_STRINGS = ("</search>", "</answer>")
LONGEST_STOP = max(map(len, STOP_STRINGS))

_OPENED_THOUGHT = re.compile(r"<think>\s*\Z")


def opened_thought(prompt: str) -> str:
    """The ``<think>`` with which a chat template's generation prompt ends; "" if it does not.

    It counts as the policy's own. A think block that the template also closes does not: it is
    empty, and a policy that has to think writes another.
    """
    match = _OPENED_THOUGHT.search(prompt)
    return match.group() if match else ""


def cut_after_stop(text: str) -> str:
    """``text`` up to and with its first stop string: a turn's last token may carry more."""
    ends = [text.find(stop) + len(stop) for stop in STOP_STRINGS if stop in text]
    return text[: min(ends)] if ends else text
