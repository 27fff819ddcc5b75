"""Who was asked: shares of calls per LLM, by dataset and by domain, and how the calls ended."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from router_r1.evaluation.records import RoutedRecord
from router_r1.evaluation.report.markup import DASH, Markup, join, tag
from router_r1.evaluation.report.trajectories import UNKNOWN_LLM, called_llm
from router_r1.llm_agent.trajectory import Call

MAX_DOMAINS = 24
COLOURS = 10


@dataclass(frozen=True)
class RoutingShares:
    """Calls per LLM in one group of questions or calls."""

    group: str
    calls: Counter[str]

    def share(self, llm: str) -> float:
        """Part of the group's calls that went to ``llm``."""
        return self.calls[llm] / max(1, self.calls.total())


@dataclass(frozen=True)
class LLMUse:
    """All calls to one LLM.

    Attributes:
        calls, failed: counts.
        share: of all calls.
        cost_share: of all that calls cost, in completion tokens x $ per 1M.
        tokens: mean completion tokens of calls that did not fail.
        latency_s: median seconds of calls that did not fail; None if all failed.
    """

    name: str
    calls: int
    failed: int
    share: float
    cost_share: float
    tokens: float
    latency_s: float | None


def shares_by_dataset(records: Sequence[RoutedRecord]) -> list[RoutingShares]:
    """In order of appearance."""
    return _grouped((r.data_source, call) for r in records for call in r.trajectory.calls)


def shares_by_domain(records: Sequence[RoutedRecord]) -> list[RoutingShares]:
    """The n-th call of a question counts for the n-th of its domains, later ones for the last.

    Questions without domains are left out; the most used domains come first.
    """
    pairs = (
        (str(domains[min(number, len(domains) - 1)]), call)
        for record in records
        if (domains := record.domains)
        for number, call in enumerate(record.trajectory.calls)
    )
    groups = sorted(_grouped(pairs), key=lambda group: -group.calls.total())
    return groups[:MAX_DOMAINS]


def shares_by_step(by_step: Mapping[int, Sequence[RoutedRecord]]) -> list[RoutingShares]:
    """Of each validation of a run, in order."""
    return _grouped(
        (f"step {step}", call)
        for step, records in by_step.items()
        for record in records
        for call in record.trajectory.calls
    )


def _grouped(pairs: Iterable[tuple[str, Call]]) -> list[RoutingShares]:
    groups: dict[str, Counter[str]] = {}
    for group, call in pairs:
        groups.setdefault(group, Counter())[called_llm(call)] += 1
    return [RoutingShares(group, calls) for group, calls in groups.items()]


def llm_use(records: Sequence[RoutedRecord], llms: Sequence[str]) -> list[LLMUse]:
    """One entry an LLM, in the order given."""
    by_llm: dict[str, list[Call]] = {name: [] for name in llms}
    for record in records:
        for call in record.trajectory.calls:
            by_llm[called_llm(call)].append(call)
    all_calls = max(1, sum(map(len, by_llm.values())))
    all_cost = sum(call.result.cost for calls in by_llm.values() for call in calls) or 1.0
    uses = []
    for name, calls in by_llm.items():
        answered = [call for call in calls if call.ok]
        uses.append(
            LLMUse(
                name=name,
                calls=len(calls),
                failed=len(calls) - len(answered),
                share=len(calls) / all_calls,
                cost_share=sum(call.result.cost for call in calls) / all_cost,
                tokens=_mean([call.result.completion_tokens for call in answered]),
                latency_s=statistics.median([call.result.latency_s for call in answered])
                if answered
                else None,
            )
        )
    return uses


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def colour_class(llm: str, llms: Sequence[str]) -> str:
    """The CSS class of an LLM's colour, the same all over the page."""
    return "llm-none" if llm == UNKNOWN_LLM else f"llm-{llms.index(llm) % COLOURS}"


def stacked_bars(groups: Sequence[RoutingShares], llms: Sequence[str]) -> Markup:
    """A bar a group, a segment an LLM; each segment says what it is on hover and to readers."""
    rows = []
    for group in groups:
        parts = [
            tag(
                "span",
                f"{share:.0%}" if share >= 0.07 else "",
                class_=f"part {colour_class(llm, llms)}",
                style=f"flex-grow:{share:.4f}",
                title=f"{llm}: {share:.1%} of the calls ({group.calls[llm]})",
            )
            for llm in llms
            if (share := group.share(llm)) > 0
        ]
        rows.append(
            tag(
                "div",
                tag("span", group.group, class_="bar-name", title=group.group),
                tag("span", *parts, class_="bar"),
                tag("span", f"{group.calls.total():,}", class_="bar-count"),
                class_="bar-row",
            )
        )
    return tag("div", *rows, class_="bars")


def llm_legend(llms: Sequence[str]) -> Markup:
    """Colours of the LLMs."""
    items = [tag("span", tag("i", class_=f"swatch {colour_class(llm, llms)}"), llm) for llm in llms]
    return tag("p", *items, class_="legend")


def use_table(uses: Sequence[LLMUse], llms: Sequence[str]) -> Markup:
    """How often each LLM was asked, what it cost and how the calls ended."""
    titles = ("LLM", "calls", "share", "share of cost", "failed", "tokens", "median latency")
    head = tag("tr", *(tag("th", title, scope="col") for title in titles))
    body = []
    for use in uses:
        latency = DASH if use.latency_s is None else f"{use.latency_s:.3g} s"
        failed = f"{use.failed:,}"
        if use.failed:
            failed += f" ({use.failed / use.calls:.1%})"
        name = join(tag("i", class_=f"swatch {colour_class(use.name, llms)}"), use.name)
        body.append(
            tag(
                "tr",
                tag("th", name, scope="row"),
                tag("td", f"{use.calls:,}"),
                tag("td", f"{use.share:.1%}"),
                tag("td", f"{use.cost_share:.1%}"),
                tag("td", failed, class_="bad" if use.failed else None),
                tag("td", f"{use.tokens:.1f}"),
                tag("td", latency),
            )
        )
    return tag("table", tag("thead", head), tag("tbody", *body))
