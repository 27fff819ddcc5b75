"""Counts of the server, in the text format that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from router_r1.pool.outcome import CallResult, Outcome

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_UNKNOWN_LLM = "unknown"


class Metrics:
    """All metrics of one server; used on its event loop alone.

    Attributes:
        in_flight: requests whose trajectory is under way.
        queued: requests that wait for their turn.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.queued = 0
        self._requests: Counter[int] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[str] = Counter()
        self._dollars = 0.0
        self._buckets = [0] * (len(_BUCKETS_S) + 1)
        self._seconds = 0.0

    def count_request(self, status: int, seconds: float) -> None:
        """A chat request ended; status 499 is a client that went away."""
        self._requests[status] += 1
        self._buckets[bisect_left(_BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def count_call(self, result: CallResult) -> None:
        """A call of the pool ended."""
        # A name that the policy made up must not make a time series of its own.
        llm = _UNKNOWN_LLM if result.outcome is Outcome.UNKNOWN_LLM else result.llm
        self._calls[llm, result.outcome.value] += 1
        self._tokens["prompt"] += result.prompt_tokens
        self._tokens["completion"] += result.completion_tokens
        self._dollars += result.dollars

    def render(self) -> str:
        """The page."""
        lines: list[str] = []

        def family(name: str, kind: str, text: str, samples: dict[str, float]) -> None:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
            lines.extend(f"{name}{labels} {value}" for labels, value in samples.items())

        family(
            "router_r1_requests_total",
            "counter",
            "Chat requests by HTTP status (499: the client went away).",
            {f'{{status="{status}"}}': count for status, count in sorted(self._requests.items())},
        )
        family(
            "router_r1_requests_in_flight",
            "gauge",
            "Chat requests under way.",
            {"": self.in_flight},
        )
        family("router_r1_requests_queued", "gauge", "Chat requests that wait.", {"": self.queued})
        family(
            "router_r1_request_seconds",
            "histogram",
            "Seconds from a chat request to its end.",
            self._histogram(),
        )
        family(
            "router_r1_pool_calls_total",
            "counter",
            "Calls of the pool's LLMs by outcome.",
            {
                f'{{llm="{_escape(llm)}",outcome="{outcome}"}}': count
                for (llm, outcome), count in sorted(self._calls.items())
            },
        )
        family(
            "router_r1_pool_tokens_total",
            "counter",
            "Tokens billed by the pool.",
            {f'{{kind="{kind}"}}': count for kind, count in sorted(self._tokens.items())},
        )
        family(
            "router_r1_pool_dollars_total",
            "counter",
            "What the calls of the pool cost.",
            {"": self._dollars},
        )
        return "\n".join(lines) + "\n"

    def _histogram(self) -> dict[str, float]:
        # The suffixes are part of the sample's name; family() puts them after it.
        samples: dict[str, float] = {}
        total = 0
        for bound, count in zip((*_BUCKETS_S, float("inf")), self._buckets, strict=True):
            total += count
            label = "+Inf" if bound == float("inf") else f"{bound:g}"
            samples[f'_bucket{{le="{label}"}}'] = total
        samples["_sum"] = self._seconds
        samples["_count"] = total
        return samples


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
