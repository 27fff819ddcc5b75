"""Why a reply ended, by its finish reason, and what to do about one without text."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """How an endpoint says that a reply ended.

    CUT: at ``max_tokens``. FILTERED: a content filter withheld the text. TOOL: the LLM called a
    tool in place of saying something. STOPPED: by itself. UNSTATED: the endpoint does not say.
    """

    CUT = "cut"
    FILTERED = "filtered"
    TOOL = "tool"
    STOPPED = "stopped"
    UNSTATED = "unstated"


# OpenAI's names first; gateways pass on those of the provider behind them.
_NAMES = {
    Ending.CUT: ("length", "max_tokens", "max_output_tokens"),
    Ending.FILTERED: (
        *("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "refusal"),
        "sensitive",
    ),
    Ending.TOOL: ("tool_calls", "function_call", "tool_use"),
    Ending.STOPPED: ("stop", "end_turn", "stop_sequence", "eos"),
}
_ENDINGS = {name: ending for ending, names in _NAMES.items() for name in names}


def ending_of(finish_reason: Any) -> Ending:
    """What a completion's ``finish_reason`` means; any value has a meaning."""
    known = isinstance(finish_reason, str)
    return _ENDINGS.get(finish_reason.lower(), Ending.UNSTATED) if known else Ending.UNSTATED


def describe_empty(ending: Ending) -> str:
    """What happened to a reply without text."""
    return {
        Ending.CUT: "the reply ended at max_tokens",
        Ending.FILTERED: "a content filter of the endpoint withheld the reply",
        Ending.TOOL: "the reply calls a tool and says nothing",
        Ending.STOPPED: "the LLM ended its reply without saying anything",
        Ending.UNSTATED: "the reply holds no text",
    }[ending]


def advise_on_empty(ending: Ending, max_tokens: int) -> str:
    """What to change so that a reply has text."""
    if ending is Ending.FILTERED:
        return "loosen the filter at the endpoint, or take another LLM"
    if ending is Ending.TOOL:
        return (
            "a call offers no tools: take them out of request.extra_body and the endpoint's own "
            "settings"
        )
    if ending is Ending.STOPPED:
        return "it was not cut: look at its model name, chat template and request.extra_body"
    return (
        f"reasoning may need more than max_tokens={max_tokens}: raise it, or ask for less reasoning"
    )
