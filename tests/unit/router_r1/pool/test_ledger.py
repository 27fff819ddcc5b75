"""What a run has spent is known to the one that goes on with it."""

from __future__ import annotations

import json

from router_r1.pool.ledger import Ledger
from router_r1.pool.outcome import CallResult, Outcome


def book(ledger: Ledger, llm: str, outcome: Outcome, dollars: float = 0.0) -> None:
    ledger.book(CallResult(llm, outcome, cost=dollars * 1e6, dollars=dollars))


def test_it_goes_on_from_the_checkpoint_but_money_stays_spent() -> None:
    before = Ledger(["Atlas", "Borealis"])
    book(before, "Atlas", Outcome.OK, 0.25)
    book(before, "Nobody", Outcome.UNKNOWN_LLM)
    saved = json.loads(json.dumps(before.state_dict()))
    book(before, "Atlas", Outcome.OK, 0.5)
    book(before, "Borealis", Outcome.TIMEOUT)
    later = Ledger(["Atlas", "Borealis"])
    later.load_state_dict(saved, json.loads(json.dumps(before.state_dict())))
    assert later.spent_usd == 0.75, "the step that is taken again was paid for as well"
    assert later.accounts["Atlas"].calls == 1
    assert later.accounts["Atlas"].dollars == 0.25
    assert later.outcomes == {Outcome.OK: 1, Outcome.UNKNOWN_LLM: 1}
    metrics = later.collect_metrics()
    assert metrics["pool/outcome/ok"] == 0, "reported by the run before"
    assert metrics["pool/infrastructure_failures/Borealis"] == 0
    book(later, "Borealis", Outcome.TIMEOUT)
    metrics = later.collect_metrics()
    assert metrics["pool/outcome/timeout"] == 1
    assert metrics["pool/infrastructure_failures/Borealis"] == 1
