"""Limits: bytes and seconds that a request's headers may take before they are processed, and requests per caller.

uvicorn's own limit counts for its other parser (h11) alone, and it waits for a head without end.  Counted is every byte
that brings no head, chunk or part of a body to its end: header lines, chunk extensions and trailers.  Trailers are
dropped, because uvicorn would add them to the headers of a request whose caller is known already.

The rate limit is a token bucket for each caller (the generic cell rate algorithm, ITU-T I.371).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from auditsvc.errors import TooMany
from auditsvc.web.problems import MEDIA_TYPE, Problem, problem

HEAD_LIMIT = 32 * 1024
"""Bytes of a request's head: its line and all headers."""

HEAD_WAIT_S = 10.0
"""Seconds until the head of a request is complete, from the connection or its first byte on."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1 with these limits."""

    _pending = 0
    """Bytes since the last head, chunk or part of a body was complete."""
    _head = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None
    _problem: Problem | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, for a limited time."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless the head is larger than the limit."""
        if self.transport.is_closing():
            return
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._start_timer()
        self._pending += len(data)
        super().data_received(data)
        if self._pending > HEAD_LIMIT and not self.transport.is_closing():
            self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """A new head."""
        self._head, self._in_head = 0, True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the request's target."""
        self._head += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; drop a trailer."""
        if self._in_head:
            self._head += len(name) + len(value) + 4
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass on what is small enough."""
        self._pending, self._in_head = 0, False
        self._stop_timer()
        if self._head > HEAD_LIMIT:
            self._problem = _too_large()
            raise ValueError("the parser stops here and calls send_400_response")
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """The line before a chunk is complete."""
        self._pending = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._pending = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._pending = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, or too large, and close."""
        self._refuse(self._problem or problem(400, "bad-request", msg))

    def _refuse(self, found: Problem) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        body = found.model_dump_json(exclude_none=True).encode()
        lines = (
            f"HTTP/1.1 {found.status} {found.title}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
            "connection: close",
        )
        self.transport.write("\r\n".join((*lines, "\r\n")).encode() + body)
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_WAIT_S, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _too_large() -> Problem:
    return problem(431, "headers-too-large", f"the request line and headers may have {HEAD_LIMIT} bytes at most")


def server_options() -> dict[str, Any]:
    """uvicorn's options for this protocol; WebSockets are not used."""
    return {"http": LimitedProtocol, "ws": "none", "timeout_keep_alive": 30, "proxy_headers": False, "lifespan": "off"}


BURST_S = 2.0
"""A caller may use this many seconds' worth of requests at once."""

MAX_CALLERS = 10_000
"""Callers that are tracked; the least recently seen one is dropped first and starts with a full bucket again."""


class RateLimiter:
    """Not thread-safe: call it from the event loop only."""

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, *, burst_s: float = BURST_S, limit: str = ""
    ) -> None:
        """``rate`` is in requests (or other units) per second for each caller; 0 is no limit.  ``limit`` words it."""
        self._rate, self._clock, self._burst_s = rate, clock, burst_s
        self._limit = limit or f"{rate:g} requests per second"
        self._next_allowed: OrderedDict[str, float] = OrderedDict()

    def count(self, caller: str, units: float = 1) -> None:
        """Count one request of this caller, or so many bytes.

        Raises:
            TooMany: the caller's rate is exceeded.
        """
        if not self._rate or not caller:
            return
        now = self._clock()
        due = max(self._next_allowed.get(caller, now), now) + units / self._rate
        if due - now > self._burst_s + 1e-6:
            raise TooMany(f"at most {self._limit} are allowed; wait and retry")
        self._next_allowed[caller] = due
        self._next_allowed.move_to_end(caller)
        if len(self._next_allowed) > MAX_CALLERS:
            self._next_allowed.popitem(last=False)
