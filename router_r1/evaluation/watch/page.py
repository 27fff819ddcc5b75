"""The page that follows a run: figures, curves, spending, outcomes, and the newest trajectories.

Guarantees: what changes on the page changes the state's version; texts of trajectories travel as
JSON and figures as markup in which everything is escaped.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from router_r1.evaluation.charts import learning_curves, llms_of
from router_r1.evaluation.tables import Card, Line, Table, or_dash
from router_r1.evaluation.viewer.reward_rule import known_pool, reward_rule, stated_by_run
from router_r1.evaluation.viewer.trajectories import detail_of, index_of
from router_r1.evaluation.watch.run_state import Phase, RunState
from router_r1.pool.dollars import show_dollars
from router_r1.web.page import FIGURES_STYLE, THEME, TRAJECTORY_STYLE, inline_page, render
from verl.trainer.ppo.totals import AT_END

_FOLDER = Path(__file__).parent
_SPENT = "pool/spent_usd"
_OUTCOME = "pool/outcome/"
_SCORE = "critic/score/mean"
_PHASES = {
    Phase.WAITING: "No run writes here yet; the page shows it as soon as one begins.",
    Phase.STARTING: "The run has begun; its first figures come with the first validation or step.",
    Phase.QUIET: "Nothing is being written: the run was stopped, or is slow and on another "
    "machine.",
}
_VALIDATED = (  # title, name in validations, metrics of training, form
    ("EM", "EM", ("reward/em", "critic/metric/mean"), "{:.3f}"),
    ("Reward", "reward", (_SCORE,), "{:.3f}"),
    ("Cost per question", "cost", ("critic/cost/mean",), "{:.1f}"),
    ("Calls per question", "route_cnt", ("env/number_of_valid_route",), "{:.2f}"),
)


def build_page(name: str) -> str:
    """The page as HTML; it asks only its own server for anything."""
    return inline_page(
        _FOLDER / "watch.html",
        _FOLDER / "watch.js",
        [THEME, TRAJECTORY_STYLE, FIGURES_STYLE, _FOLDER / "watch.css"],
        policy="connect-src 'self'",
        title=name,
    )


def describe(state: RunState) -> dict[str, Any]:
    """The state as JSON: ``phase``; ``progress``, a few words for the window's title; ``overview``,
    markup; ``samples``: None, or ``index`` and ``details`` as
    :func:`router_r1.evaluation.viewer.trajectories.encode` describes them; and ``version``, which
    differs whenever any of these does."""
    total = f"/{state.total_steps}" if state.total_steps else ""
    content = {
        "phase": state.phase.value,
        "progress": f"step {state.step}{total}" if state.rows else state.phase.value,
        "overview": overview(state),
        "samples": _samples(state),
    }
    text = json.dumps(content, allow_nan=False)
    version = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return {**content, "version": version}


def _samples(state: RunState) -> dict[str, Any] | None:
    """Trajectories of the newest steps, the newest step first."""
    records = [record for samples in state.samples.values() for record in samples]
    if not records:
        return None
    steps = [step for step, samples in state.samples.items() for _ in samples]
    try:
        stated = stated_by_run(state.config)
    except (AttributeError, KeyError, TypeError):  # it is not there yet, or of something else
        stated = {}
    rule = reward_rule(records, stated)
    pool = known_pool(state.group("pool").get("name"))
    details = [detail_of(record, rule, pool) for record in records]
    return {"index": index_of(records, rule, steps), "details": details}


def overview(state: RunState) -> Markup:
    """Everything there are figures for; a sentence where there are none yet."""
    total = f" of {state.total_steps}" if state.total_steps else ""
    return render(
        _FOLDER / "overview.html",
        faults=state.faults,
        phase=phase_text(state),
        count=f"step {state.step}{total}" if state.rows else "",
        step=state.step,
        total=state.total_steps,
        cards=_cards(state),
        learning=learning_curves(state.rows),
        spending=_spending(state.rows),
        outcomes=_outcomes(state.rows),
    )


def phase_text(state: RunState) -> str:
    """Where the run is, in a sentence."""
    if state.phase in _PHASES:
        return _PHASES[state.phase]
    if state.phase is Phase.ENDED:
        seconds = state.total_seconds
        took = f" after {_duration(seconds)}" if seconds is not None else ""
        return f"The run has ended{took}. A new one of the same name appears here by itself."
    total, pace = state.total_steps, _seconds_per_step(state)
    if total and state.step >= total:
        return "All steps are done; the last validation is under way."
    if total and pace is not None:  # validations to come are not counted
        return f"Training; about {_duration((total - state.step) * pace)} left."
    return "Training."


def _cards(state: RunState) -> list[Card]:
    cards = []
    for title, validated, training, form in _VALIDATED:
        measured = _values(state.rows, (f"val/test_score/{validated}/all",))
        sampled = _values(state.rows, training)
        if measured:
            before = f" {form.format(measured[0])}" if len(measured) > 1 else ""
            note = f"validation; before training{before}"
            cards.append(Card(title, form.format(measured[-1]), note))
        elif sampled:
            cards.append(Card(title, form.format(sampled[-1]), "this step's batch"))
    spent = _values(state.rows, (_SPENT,))
    if spent and spent[-1] > 0:
        at_end = _values(state.rows, (_SPENT + AT_END,))
        note = f"about {show_dollars(at_end[-1])} at the end" if at_end else ""
        title = "Spent (simulated)" if state.group("pool").get("simulated") else "Spent"
        cards.append(Card(title, show_dollars(spent[-1]), note))
    pace = _seconds_per_step(state)
    if pace is not None:
        cards.append(Card("Time per step", f"{pace:.1f} s", "of the last 5"))
    return cards


def _spending(rows: Sequence[dict[str, Any]]) -> Table:
    """A line an LLM: how often the newest steps asked it, and what it has cost so far."""
    last_step: dict[str, Any] = next((row for row in reversed(rows) if _SCORE in row), {})
    last: dict[str, Any] = next((row for row in reversed(rows) if _SPENT in row), {})
    titles = (
        "LLM",
        "calls per question" + (f", step {last_step['step']}" if last_step else ""),
        "share that infrastructure broke, lately",
        "$ so far",
    )
    lines = []
    for llm in llms_of(rows):
        asked = or_dash(last_step.get(f"reward/calls/{llm}"), "{:.2f}".format)
        broke = or_dash(last.get(f"pool/infrastructure_failures/{llm}"), "{:.0%}".format)
        spent = or_dash(last.get(f"{_SPENT}/{llm}"), show_dollars)
        lines.append(Line(llm, [asked, broke, spent]))
    asked = or_dash(last_step.get("env/number_of_valid_route"), "{:.2f}".format)
    lines.append(Line("all", [asked, "", or_dash(last.get(_SPENT), show_dollars)], style="total"))
    return Table("", dict.fromkeys(titles, ""), lines)


def _outcomes(rows: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """How all calls of the run ended, those that were answered first."""
    counts: Counter[str] = Counter()
    for row in rows:
        for name, value in row.items():
            if name.startswith(_OUTCOME) and value:
                counts[name.removeprefix(_OUTCOME)] += int(value)
    answered = [("answered", counts.pop("ok"))] if "ok" in counts else []
    return answered + [(name.replace("_", " "), count) for name, count in counts.most_common()]


def _seconds_per_step(state: RunState) -> float | None:
    """Of the last 5 steps."""
    pace = _values(state.rows, ("timing_s/step",))[-5:]
    return sum(pace) / len(pace) if pace else None


def _values(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[float]:
    """Of the first of ``names`` that any row has, in the order written."""
    for name in names:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            return values
    return []


def _duration(seconds: float) -> str:
    """ "45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
