"""What the page shows of a run beside its trajectories: figures, curves, spending, outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from router_r1.evaluation.report.curves import learning_section, llms_of
from router_r1.evaluation.report.markup import DASH, Markup, join, tag
from router_r1.evaluation.watch.run_state import Phase, RunState
from router_r1.pool.dollars import show_dollars
from verl.trainer.ppo.totals import AT_END

_SPENT = "pool/spent_usd"
_OUTCOME = "pool/outcome/"
_CALLS = "reward/calls/"
_SCORE = "critic/score/mean"
_PACE_STEPS = 5
_VALIDATED = (  # title, name in validations, metrics of training, form
    ("EM", "EM", ("reward/em", "critic/metric/mean"), "{:.3f}"),
    ("Reward", "reward", (_SCORE,), "{:.3f}"),
    ("Cost per question", "cost", ("critic/cost/mean",), "{:.1f}"),
    ("Calls per question", "route_cnt", ("env/number_of_valid_route",), "{:.2f}"),
)


def overview(state: RunState) -> Markup:
    """Everything there are figures for; a sentence where there are none yet."""
    parts = [tag("p", fault, class_="note bad") for fault in state.faults]
    parts.append(_progress(state))
    if not state.rows:
        return join(*parts)
    parts.append(tag("div", *_cards(state), class_="cards"))
    curves = learning_section(state.rows)
    if curves is not None:
        parts.append(_section("Learning", curves))
    parts.append(_section("Spending and outcomes", _spending(state.rows, llms_of(state.rows))))
    return join(*parts)


def phase_text(state: RunState) -> str:
    """Where the run is, in a sentence."""
    if state.phase is Phase.WAITING:
        return "No run writes here yet; the page shows it as soon as one begins."
    if state.phase is Phase.STARTING:
        return "The run has begun; its first figures come with the first validation or step."
    if state.phase is Phase.ENDED:
        seconds = state.total_seconds
        took = f" after {_duration(seconds)}" if seconds is not None else ""
        return f"The run has ended{took}. A new one of the same name appears here by itself."
    if state.phase is Phase.QUIET:
        return "Nothing is being written: the run was stopped, or is slow and on another machine."
    if state.total_steps and state.step >= state.total_steps:
        return "All steps are done; the last validation is under way."
    left = _seconds_left(state)
    return f"Training; about {_duration(left)} left." if left is not None else "Training."


def _section(title: str, body: Markup) -> Markup:
    return tag("section", tag("h2", title), body)


def _progress(state: RunState) -> Markup:
    total = state.total_steps
    if not state.rows:
        return tag("p", phase_text(state), class_="phase-text")
    count = f"step {state.step}" + (f" of {total}" if total else "")
    bar = tag("progress", value=state.step, max=total, aria_label=count) if total else ""
    return tag("div", bar, tag("b", count), tag("span", phase_text(state)), class_="progress")


def _cards(state: RunState) -> list[Markup]:
    cards = []
    for title, validated, training, form in _VALIDATED:
        measured = _values(state.rows, (f"val/test_score/{validated}/all",))
        sampled = _values(state.rows, training)
        if measured:
            change = f"before training {form.format(measured[0])}" if len(measured) > 1 else ""
            note = change or "before training"
            cards.append(_card(title, form.format(measured[-1]), f"validation; {note}"))
        elif sampled:
            cards.append(_card(title, form.format(sampled[-1]), "this step's batch"))
    spent = _values(state.rows, (_SPENT,))
    if spent and spent[-1] > 0:
        at_end = _values(state.rows, (_SPENT + AT_END,))
        note = f"about {show_dollars(at_end[-1])} at the end" if at_end else ""
        title = "Spent (simulated)" if _is_simulated(state) else "Spent"
        cards.append(_card(title, show_dollars(spent[-1]), note))
    pace = _values(state.rows, ("timing_s/step",))
    if pace:
        recent = pace[-_PACE_STEPS:]
        cards.append(_card("Time per step", f"{sum(recent) / len(recent):.1f} s", "of the last 5"))
    return cards


def _card(title: str, value: str, note: str) -> Markup:
    return tag(
        "div",
        tag("span", title, class_="card-name"),
        tag("span", value, class_="card-value"),
        tag("span", note, class_="card-note"),
        class_="card",
    )


def _spending(rows: Sequence[dict[str, Any]], llms: Sequence[str]) -> Markup:
    """A row an LLM: how often the newest steps asked it, and what it has cost so far."""
    last_step: dict[str, Any] = next((row for row in reversed(rows) if _SCORE in row), {})
    last: dict[str, Any] = next((row for row in reversed(rows) if _SPENT in row), {})
    of_step = f", step {last_step['step']}" if last_step else ""
    head = tag(
        "tr",
        tag("th", "LLM", scope="col"),
        tag("th", f"calls per question{of_step}", scope="col"),
        tag("th", "share that infrastructure broke, lately", scope="col"),
        tag("th", "$ so far", scope="col"),
    )
    body = [
        tag(
            "tr",
            tag("th", llm, scope="row"),
            tag("td", _shown(last_step.get(_CALLS + llm), "{:.2f}")),
            tag("td", _shown(last.get(f"pool/infrastructure_failures/{llm}"), "{:.0%}")),
            tag("td", _dollars(last.get(f"{_SPENT}/{llm}"))),
        )
        for llm in llms
    ]
    total = tag(
        "tr",
        tag("th", "all", scope="row"),
        tag("td", _shown(last_step.get("env/number_of_valid_route"), "{:.2f}")),
        tag("td"),
        tag("td", _dollars(last.get(_SPENT))),
        class_="total",
    )
    table = tag("table", tag("thead", head), tag("tbody", *body, total))
    return join(tag("div", table, class_="scroll"), _outcomes(rows))


def _outcomes(rows: Sequence[dict[str, Any]]) -> Markup:
    """How all calls of the run ended, those that answered first."""
    counts: Counter[str] = Counter()
    for row in rows:
        for name, value in row.items():
            if name.startswith(_OUTCOME) and value:
                counts[name.removeprefix(_OUTCOME)] += int(value)
    if not counts:
        return Markup("")
    items = [
        tag(
            "span",
            tag("b", f"{count:,}"),
            f" {'answered' if name == 'ok' else name.replace('_', ' ')}",
            class_="ok" if name == "ok" else "failed",
        )
        for name, count in sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1]))
    ]
    return tag("p", "All calls of the run: ", *items, class_="outcomes")


def _seconds_left(state: RunState) -> float | None:
    """Steps to come at the pace of the last ones; validations to come are not counted."""
    pace = _values(state.rows, ("timing_s/step",))[-_PACE_STEPS:]
    if not pace or not state.total_steps:
        return None
    return max(0, state.total_steps - state.step) * sum(pace) / len(pace)


def _values(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[float]:
    """Of the first of ``names`` that any row has, in the order written."""
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            return values
    return []


def _is_simulated(state: RunState) -> bool:
    return bool(state.group("pool").get("simulated"))


def _shown(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)


def _dollars(value: float | None) -> str:
    return DASH if value is None else show_dollars(value)


def _duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
