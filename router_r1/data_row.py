"""What routing asks of a data row, beyond what the framework reads from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router_r1.llm_agent.trajectory import QuestionRecord
from router_r1.preference import FIELD, own_weight
from router_r1.reward.normalization import normalize_answer
from verl.utils.rows import Row, RowError, bare_prompt, extra_info, ground_truth, shown


def question(row: Mapping[str, Any]) -> str | None:
    """``extra_info.question``, the question without any prompt around it; None if absent or blank,
    :class:`RowError` if it is no text."""
    return bare_prompt(row, QuestionRecord.prompt_name)


def check_routing_row(
    row: Row, normalization: str, needs_question: bool = False, most_cost_coe: float | None = None
) -> None:
    """Raises a :class:`RowError`, which names the field, for a row that no answer could be right
    for, whose question is no text, whose weight of cost cannot be used, or whose domains are no
    list of texts.

    Args:
        needs_question: whether a row without ``extra_info.question`` is refused as well.
        most_cost_coe: the largest weight of cost that a row may bring; None for a run whose prompts
            do not state one, where it may bring none.
    """
    if question(row) is None and needs_question:
        raise RowError(
            f"extra_info.{QuestionRecord.prompt_name}",
            "must hold the question, for this run writes each question's own prompt",
        )
    if (weight := own_weight(row)) is not None:
        if most_cost_coe is None:
            raise RowError(
                f"extra_info.{FIELD}",
                f"is {weight:g}, but this run tells the policy no weight of cost; set "
                "state_cost_coe=true, or drop the field",
            )
        if weight > most_cost_coe:
            raise RowError(
                f"extra_info.{FIELD}",
                f"is {weight:g}, and with the weight of latency more than 1; at most "
                f"{most_cost_coe:g} is left",
            )
    answers = ground_truth(row)
    if not any(normalize_answer(answer, normalization) for answer in answers):
        raise RowError(
            "reward_model.ground_truth.target",
            f"holds only punctuation, which no answer matches: {shown(answers)}",
        )
    domains = extra_info(row).get("domains")
    is_list_of_texts = isinstance(domains, list) and all(isinstance(name, str) for name in domains)
    if domains is not None and not is_list_of_texts:
        raise RowError(
            "extra_info.domains", f"must be a list of texts, or absent; got {shown(domains)}"
        )
