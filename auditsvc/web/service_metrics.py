"""What the service counts about itself, as OpenMetrics text.

Reference: CNCF (2020), "OpenMetrics", https://openmetrics.io; also read by every Prometheus.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the histogram's buckets, in seconds."""


class Metrics:
    """Requests by method, route and status, with the time they took.  Only the event loop's thread counts."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS_S) + 1))
        self._seconds: Counter[str] = Counter()
        self.registry_moves = 0
        """Aliases and stages that somebody moved past auditsvc, since the start."""

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request more; ``route`` is the path's template, so that no label grows with the data."""
        self._requests[method if method.isalpha() and len(method) < 8 else "OTHER", route, status] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]
        bucket = 0
        for bound in BOUNDS_S:
            if seconds <= bound:
                break
            bucket += 1
        self._buckets[route][bucket] += 1

    def text(self, **gauges: float) -> str:
        """The whole exposition; ``gauges`` are added as they are."""
        return "\n".join([*self._counters(), *self._histograms(), *self._moves(), *_gauges(gauges), "# EOF", ""])

    def _counters(self) -> Iterator[str]:
        yield "# TYPE auditsvc_requests counter"
        yield "# HELP auditsvc_requests Requests by method, route and status."
        for (method, route, status), number in sorted(self._requests.items()):
            yield f'auditsvc_requests_total{{method="{method}",route="{route}",status="{status}"}} {number}'

    def _moves(self) -> Iterator[str]:
        yield "# TYPE auditsvc_registry_moves counter"
        yield "# HELP auditsvc_registry_moves Aliases and stages that were moved past auditsvc."
        yield f"auditsvc_registry_moves_total {self.registry_moves}"

    def _histograms(self) -> Iterator[str]:
        yield "# TYPE auditsvc_request_seconds histogram"
        yield "# UNIT auditsvc_request_seconds seconds"
        yield "# HELP auditsvc_request_seconds Time from the first byte of a request to the end of its answer."
        for route, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), buckets, strict=True):
                total += number
                yield f'auditsvc_request_seconds_bucket{{route="{route}",le="{bound}"}} {total}'
            yield f'auditsvc_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
            yield f'auditsvc_request_seconds_count{{route="{route}"}} {total}'


def _gauges(gauges: dict[str, float]) -> Iterator[str]:
    for name, value in sorted(gauges.items()):
        yield f"# TYPE auditsvc_{name} gauge"
        yield f"auditsvc_{name} {value:g}"
