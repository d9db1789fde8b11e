"""The service's own metrics, exposed in the OpenMetrics format by ``prometheus_client``.

Reference: CNCF (2020), "OpenMetrics", https://openmetrics.io; every Prometheus reads it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

MEDIA_TYPE = CONTENT_TYPE_LATEST

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""


class ServiceMetrics:
    """The metrics of one service process, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "auditsvc_requests",
            "Requests by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "auditsvc_request_seconds",
            "Time from the first byte of a request to the end of its response.",
            ("route",),
            unit="seconds",
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self.registry_moves = Counter(
            "auditsvc_registry_moves",
            "Aliases and stages that were changed outside auditsvc.",
            registry=self._registry,
        )
        self.registry_faults = Gauge(
            "auditsvc_registry_faults",
            "Models whose entries in the registry could not be checked in the last round.",
            ("project",),
            registry=self._registry,
        )
        self.log_faults = Gauge(
            "auditsvc_log_faults",
            "Differences between the ledger and its transparency log at the last check.",
            ("project",),
            registry=self._registry,
        )
        self._cached = Gauge("auditsvc_gate_cache_entries", "Cached answers to gate queries.", registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; ``route`` is the path's template, which keeps the number of series bounded."""
        known = method if method.isalpha() and len(method) < 8 else "OTHER"
        self._requests.labels(known, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self, cached_answers: int) -> bytes:
        """All series as OpenMetrics text.

        Args:
            cached_answers: The number of entries in the gate cache.
        """
        self._cached.set(cached_answers)
        text: bytes = generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return text
