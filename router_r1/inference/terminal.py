"""Shows a trajectory in a terminal while it is made.

Guarantees: text appears as soon as it is certain, each block under a label of its own; nothing in
it reaches the terminal as a control sequence; without a terminal there are no colours.
"""

from __future__ import annotations

import re
from typing import TextIO

from rich.console import Console
from rich.text import Text

from router_r1.llm_agent.observer import TrajectoryObserver
from router_r1.llm_agent.parsing import Action
from router_r1.llm_agent.trajectory import RoutedTrajectory
from router_r1.pool.dollars import show_dollars
from router_r1.pool.outcome import CallResult, Outcome
from router_r1.tags import DEFAULT_TAGS, SectionReader, Tags
from verl.trajectory import Trajectory, TrajectoryStatus

# Section: its label, and the styles of label and text.
_SECTIONS = {
    "think": ("think", "dim", "dim"),
    "search": ("search", "bold cyan", "cyan"),
    "information": ("reply", "bold", "default"),
    "answer": ("answer", "bold green", "bold green"),
    "": ("", "", "dim italic"),
}
_INDENT = 9
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ENDINGS = {
    TrajectoryStatus.TURNS_EXHAUSTED: "no answer: all turns are used up",
    TrajectoryStatus.TRUNCATED: "no answer: the context is full",
    TrajectoryStatus.FAILED: "no answer: the trajectory failed",
}
_INVALID = {
    "no-action": "neither a complete search nor an answer",
    "invalid-1": "the search holds a placeholder of the prompt",
    "invalid-2": "the search names no LLM (no ':')",
    "invalid-3": "the search has no query",
}


class ResultConsole(Console):
    """A console on results; a reader that goes away raises BrokenPipeError.

    rich would end the process from whatever thread prints, which the rollout's must not.
    """

    def __init__(self, file: TextIO) -> None:
        super().__init__(file=file, highlight=False)

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled."""
        raise BrokenPipeError


class TerminalView(TrajectoryObserver):
    """Prints one question's trajectory on ``console``."""

    def __init__(self, console: Console, tags: Tags = DEFAULT_TAGS) -> None:
        self._console = console
        self._reader = SectionReader(tags)
        self._shown: str | None = None  # the section under whose label we are
        self._space = ""  # white space that is printed only if text follows

    def show_question(self, question: str) -> None:
        """Prints the question, before its trajectory."""
        self._line("question", "bold", question, "bold")

    def on_text(self, delta: str) -> None:
        """Prints it under the label of its section."""
        for section, text in self._reader.push(delta):
            self._write(section, text)

    def on_turn_end(self, action: Action) -> None:
        """Ends the turn's last section, and says what is wrong with its action."""
        for section, text in self._reader.end():
            self._write(section, text)
        self._end_section()
        if action.kind == "invalid":
            self._line("", "", _INVALID[action.reason], "yellow")

    def on_observation(self, block: str) -> None:
        """Prints the reply that the policy reads."""
        self.on_text(block)
        self._end_section()

    def on_result(self, result: CallResult) -> None:
        """Prints latency, tokens and cost of a call, or how it failed."""
        latency = seconds(result.latency_s)
        if result.outcome is not Outcome.OK:
            reason = result.outcome.value.replace("_", " ")
            self._line("call", "bold red", f"{result.llm} failed: {reason}, {latency}", "red")
            return
        parts = (
            result.llm,
            latency,
            f"{result.prompt_tokens} + {result.completion_tokens} tokens",
            f"cost {result.cost:.4g}",
            dollars(result.dollars),
        )
        self._line("call", "bold magenta", " · ".join(parts), "magenta")

    def on_end(self, trajectory: Trajectory[RoutedTrajectory]) -> None:
        """Prints why there is no answer, and what turns and calls came to."""
        record = trajectory.record
        if trajectory.status is not TrajectoryStatus.ANSWERED:
            self._line("", "", _ENDINGS[trajectory.status], "yellow")
        parts = [_count(len(record.turns), "turn"), _count(len(record.calls), "call")]
        if record.failed_calls:
            parts.append(f"{record.failed_calls} failed")
        results = [call.result for call in record.calls]
        tokens = sum(result.prompt_tokens + result.completion_tokens for result in results)
        parts += [f"{tokens} tokens", f"cost {record.cost:.4g}", dollars(record.dollars)]
        self._line("total", "dim", " · ".join(parts), "dim")

    def _write(self, section: str, delta: str) -> None:
        text = _printable(delta)
        if section != self._shown:
            self._end_section()
            if not text.strip():
                return
            label, label_style, _ = _SECTIONS[section]
            self._label(label, label_style)
            self._shown = section
            text = text.lstrip()
        body = text.rstrip()
        if not body:
            self._space += text
            return
        self._print(self._space + body, _SECTIONS[section][2])
        self._space = text[len(body) :]

    def _end_section(self) -> None:
        if self._shown is not None:
            self._console.print()
        self._shown, self._space = None, ""

    def _line(self, label: str, label_style: str, text: str, style: str) -> None:
        self._end_section()
        self._label(label, label_style)
        self._print(_printable(text), style)
        self._console.print()

    def _label(self, label: str, style: str) -> None:
        self._console.print(Text(f"{label:>{_INDENT - 1}} ", style=style), end="", soft_wrap=True)

    def _print(self, text: str, style: str) -> None:
        indented = text.replace("\n", "\n" + " " * _INDENT)
        self._console.print(Text(indented, style=style), end="", soft_wrap=True)


def dollars(amount: float) -> str:
    """As :func:`show_dollars`, but "$0" for nothing."""
    return show_dollars(amount) if amount > 0 else "$0"


def seconds(duration: float) -> str:
    """ "12 ms" or "1.3 s"."""
    return f"{1000 * duration:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _printable(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
