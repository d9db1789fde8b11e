"""One request and its answer, over the standard library: no redirects, errors as ours, tried again where that is safe.

A redirect is never followed: it would carry the token to wherever it points.
"""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

from auditsvc.errors import AuditError, InvalidInput, NotVerified, Unavailable, errors_by_code

PAUSES_S = (0.2, 1.0)
"""Waits before a request is sent again, in seconds."""

Body = bytes | Path | None
T = TypeVar("T")


@dataclass(frozen=True)
class Transport:
    """Where the service is, and the token for it."""

    url: str
    token: str = field(repr=False)
    timeout: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"not the address of a service: {self.url!r}; try http://127.0.0.1:8600")

    def send(self, method: str, path: str, body: Body = None, kind: str = "application/json") -> bytes:
        """The body of a good answer.

        Raises:
            AuditError: what the service answered, as the error of that code.
            Unavailable: it could not be reached, or failed, after every try.
        """
        headers = {"idempotency-key": uuid.uuid4().hex} if method != "GET" and not isinstance(body, Path) else {}
        if body is not None:
            headers["content-type"] = kind
        return self._tried(lambda: self._once(method, path, body, headers))

    def save(self, path: str, file: Path) -> Path:
        """Write an answer to a file, streaming; the file appears whole or not at all."""
        partial = file.with_name(f".{file.name}.partial")

        def once() -> Path:
            with self._asked("GET", path, None, {}) as answer, partial.open("wb") as out:
                while data := answer.read(1 << 20):
                    out.write(data)
            return partial.replace(file)

        return self._tried(once)

    def _tried(self, once: Callable[[], T]) -> T:
        for pause in PAUSES_S:
            try:
                return once()
            except Unavailable:
                time.sleep(pause)
        return once()

    def _once(self, method: str, path: str, body: Body, headers: dict[str, str]) -> bytes:
        with self._asked(method, path, body, headers) as answer:
            return answer.read()

    @contextmanager
    def _asked(self, method: str, path: str, body: Body, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        opened = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(
            parts.hostname or "", parts.port, timeout=self.timeout
        )
        sent = dict(headers) | ({"authorization": f"Bearer {self.token}"} if self.token else {})
        try:
            with _readable(body) as data:
                opened.request(method, parts.path.rstrip("/") + path, data, sent)
            answer = opened.getresponse()
            if answer.status >= 300:
                raise error_of(answer.status, answer.read())
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the service at {self.url} does not answer: {error}") from error
        finally:
            opened.close()


@contextmanager
def _readable(body: Body) -> Iterator[bytes | IO[bytes] | None]:
    """The bytes, or a file that is read while it is sent."""
    if not isinstance(body, Path):
        yield body
        return
    with body.open("rb") as file:
        yield file


def error_of(status: int, body: bytes) -> AuditError:
    """What the service answered, as the error of its code."""
    try:
        told = json.loads(body)
        code, detail, reasons = str(told["code"]), str(told["detail"]), tuple(map(str, told.get("reasons", ())))
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"this does not look like auditsvc: it answers {status}")
    kind = errors_by_code().get(code, InvalidInput if status < 500 else Unavailable)
    if issubclass(kind, (InvalidInput, NotVerified)):
        return kind(detail, reasons)
    return kind(detail)
