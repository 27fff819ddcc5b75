"""Counts of the server, in the text format that Prometheus reads."""

from __future__ import annotations

from functools import partial

import prometheus_client as prometheus

from router_r1.pool.outcome import CallResult, Outcome

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_UNKNOWN_LLM = "unknown"
prometheus.disable_created_metrics()  # a series of times beside every series


class Metrics:
    """All metrics of one server, used on its event loop alone; ``in_flight`` counts requests whose
    trajectory is under way, ``queued`` those that wait for their turn."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.queued = 0
        self._registry = registry = prometheus.CollectorRegistry()
        counter = partial(prometheus.Counter, registry=registry)
        gauge = partial(prometheus.Gauge, registry=registry)
        self._requests = counter(
            "router_r1_requests",
            "Requests of answers and routes by HTTP status (499: the client went away).",
            ["status"],
        )
        in_flight = gauge("router_r1_requests_in_flight", "Requests under way.")
        in_flight.set_function(lambda: self.in_flight)
        queued = gauge("router_r1_requests_queued", "Requests that wait.")
        queued.set_function(lambda: self.queued)
        self._seconds = prometheus.Histogram(
            "router_r1_request_seconds",
            "Seconds from a request to its end.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._calls = counter(
            "router_r1_pool_calls", "Calls of the pool's LLMs by outcome.", ["llm", "outcome"]
        )
        self._tokens = counter("router_r1_pool_tokens", "Tokens billed by the pool.", ["kind"])
        self._dollars = counter("router_r1_pool_dollars", "What the calls of the pool cost.")

    def count_request(self, status: int, seconds: float) -> None:
        """A request ended; status 499 is a client that went away."""
        self._requests.labels(status).inc()
        self._seconds.observe(seconds)

    def count_call(self, result: CallResult) -> None:
        """A call of the pool ended."""
        # A name that the policy made up must not make a time series of its own.
        llm = _UNKNOWN_LLM if result.outcome is Outcome.UNKNOWN_LLM else result.llm
        self._calls.labels(llm, result.outcome.value).inc()
        self._tokens.labels("prompt").inc(result.prompt_tokens)
        self._tokens.labels("completion").inc(result.completion_tokens)
        self._dollars.inc(result.dollars)

    def render(self) -> str:
        """All series in Prometheus' text format."""
        return prometheus.generate_latest(self._registry).decode()
