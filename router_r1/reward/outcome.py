"""Exact match and token F1 of an answer, best over the gold answers.

Guarantees: an answer whose normal form is empty is never right; where EM is 1, so is F1. Normal
forms are those of :func:`~router_r1.reward.normalization.normalize_answer`.
"""

from __future__ import annotations

from collections import Counter

from router_r1.reward.normalization import normalize_answer

_CLOSED_ANSWERS = ("yes", "no", "noanswer")


def exact_match(
    prediction: str, golden_answers: str | list[str], normalization: str = "paper"
) -> float:
    """1.0 if the normalised prediction equals a normalised gold answer, else 0.0."""
    predicted, wanted = _normalized(prediction, golden_answers, normalization)
    return float(predicted != "" and predicted in wanted)


def f1_score(
    prediction: str, golden_answers: str | list[str], normalization: str = "paper"
) -> float:
    """Harmonic mean of token precision and recall, best over the gold answers."""
    predicted, wanted = _normalized(prediction, golden_answers, normalization)
    return max((_f1(predicted, gold) for gold in wanted), default=0.0)


def _f1(predicted: str, wanted: str) -> float:
    if predicted != wanted and (predicted in _CLOSED_ANSWERS or wanted in _CLOSED_ANSWERS):
        return 0.0
    predicted_tokens, wanted_tokens = predicted.split(), wanted.split()
    common = sum((Counter(predicted_tokens) & Counter(wanted_tokens)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted_tokens), common / len(wanted_tokens)
    return 2 * precision * recall / (precision + recall)


def _normalized(
    prediction: str, golden_answers: str | list[str], normalization: str
) -> tuple[str, list[str]]:
    golds = [golden_answers] if isinstance(golden_answers, str) else golden_answers
    normal_forms = [normalize_answer(gold, normalization) for gold in golds]
    return normalize_answer(prediction, normalization), normal_forms
