"""The page that follows a run, and what it is told of the run's state.

Guarantees: what changes on the page changes the state's version; texts of trajectories travel as
JSON and figures as markup in which everything is escaped.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from router_r1.evaluation.viewer.reward_rule import known_pool, reward_rule
from router_r1.evaluation.viewer.trajectories import detail_of, index_of
from router_r1.evaluation.watch.overview import overview
from router_r1.evaluation.watch.run_state import RunState
from router_r1.web.page import FIGURES_STYLE, THEME, TRAJECTORY_STYLE, inline_page

_FOLDER = Path(__file__).parent


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
    """The state as JSON.

    Returns:
        ``phase``; ``progress``, a few words for the window's title; ``overview``, markup;
        ``samples``: None, or ``index`` and ``details`` as
        :func:`router_r1.evaluation.viewer.trajectories.encode` describes them; and ``version``,
        which differs whenever any of these does.
    """
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
    rule = reward_rule(records, state.config)
    pool = known_pool(state.group("pool").get("name"))
    details = [detail_of(record, rule, pool) for record in records]
    return {"index": index_of(records, rule, steps), "details": details}
