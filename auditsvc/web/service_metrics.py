"""The service's own metrics, exposed in the OpenMetrics format by ``prometheus_client``.

Reference: CNCF (2020), "OpenMetrics", https://openmetrics.io; every Prometheus reads it.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from auditsvc.ports import Ledger
from auditsvc.records import Moment, Monitoring, WatchSettings
from auditsvc.services.watching import open_drift, watch_settings

MEDIA_TYPE = CONTENT_TYPE_LATEST

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""


_WATCHED = {
    "images": "Observations that counted since the settings count.",
    "alarms": "Open alarms.",
    "evidence": "The strongest evidence of a change: log10 of the e-value less that of the alarm; 0 is an alarm.",
    "last_run_seconds": "When the monitor found something new last, in seconds since 1970.",
}


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
        self._watched = {
            name: Gauge(f"auditsvc_watched_{name}", words, ("project", "model", "version"), registry=self._registry)
            for name, words in _WATCHED.items()
        }
        self._cached = Gauge("auditsvc_gate_cache_entries", "Cached answers to gate queries.", registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request; ``route`` is the path's template, which keeps the number of series bounded."""
        known = method if method.isalpha() and len(method) < 8 else "OTHER"
        self._requests.labels(known, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def watched(self, project: str, ledger: Ledger, now: Moment) -> None:
        """How each watched release is, as its last run says."""
        for release in {one.release for one in ledger.all(WatchSettings)}:
            found = [one for _, one in ledger.page(Monitoring, subject=release, limit=1) if one.observed]
            for run in found if watch_settings(ledger, release) else ():
                seen = run.observed
                nearest = [one.log10_e - one.limit for one in seen.streams] if seen else []
                values = {
                    "images": seen.images if seen else 0,
                    "alarms": len(open_drift(ledger, release, now)),
                    "evidence": max(nearest, default=0.0),
                    "last_run_seconds": run.at.timestamp(),
                }
                for name, value in values.items():
                    self._watched[name].labels(project, run.model, run.version).set(value)

    def exposition(self, cached_answers: int) -> bytes:
        """All series as OpenMetrics text.

        Args:
            cached_answers: The number of entries in the gate cache.
        """
        self._cached.set(cached_answers)
        text: bytes = generate_latest(self._registry)  # type: ignore[no-untyped-call]
        return text
