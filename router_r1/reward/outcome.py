"""Exact match and token F1 of an answer, best over the gold answers (contract section 4)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = ("yes", "no", "noanswer")


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation and articles, white space squeezed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, golden_answers: str | list[str]) -> float:
    """1.0 if the normalised prediction equals a normalised gold answer, else 0.0."""
    normalized = normalize_answer(prediction)
    return float(any(normalized == normalize_answer(gold) for gold in _as_list(golden_answers)))


def f1_score(prediction: str, golden_answers: str | list[str]) -> float:
    """Harmonic mean of token precision and recall, best over the gold answers."""
    return max((_f1(prediction, gold) for gold in _as_list(golden_answers)), default=0.0)


def _f1(prediction: str, gold: str) -> float:
    predicted, wanted = normalize_answer(prediction), normalize_answer(gold)
    if predicted != wanted and (predicted in _CLOSED_ANSWERS or wanted in _CLOSED_ANSWERS):
        return 0.0
    predicted_tokens, wanted_tokens = predicted.split(), wanted.split()
    common = sum((Counter(predicted_tokens) & Counter(wanted_tokens)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted_tokens), common / len(wanted_tokens)
    return 2 * precision * recall / (precision + recall)


def _as_list(golden_answers: str | list[str]) -> list[str]:
    return [golden_answers] if isinstance(golden_answers, str) else list(golden_answers)
