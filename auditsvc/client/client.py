"""``Client`` and ``AsyncClient``: the calls of ``auditsvc.client.calls`` over HTTP, blocking or awaitable.

A redirect is never followed, since it could carry the token to another host.  ``asyncio`` is imported by the awaitable
half alone: a pipeline that asks one question doesn't wait for it.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from auditsvc.client import calls
from auditsvc.client.calls import Call, Pause, Request
from auditsvc.errors import AuditError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from auditsvc.records import Record

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Record")
Step = Request | Pause
_CHUNK = 1 << 20


def _describe(method: Callable[..., Any], call: Callable[..., Any]) -> None:
    """Give a method the name and docstring of its call, and the call's parameters after ``self``, for ``help``."""
    functools.update_wrapper(method, call)
    signature = inspect.signature(call)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    setattr(method, "__signature__", signature.replace(parameters=[this, *signature.parameters.values()]))  # noqa: B010


def _blocking(call: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A call as a method of ``Client``."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(*args, **kwargs))

    _describe(method, call)
    return method


def _awaitable(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A call as an awaitable method of ``AsyncClient``."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(call(*args, **kwargs))

    _describe(method, call)
    return method


@dataclass(frozen=True)
class _Service:
    """The address of the service, the token for it, and the time to wait for an answer, in seconds."""

    url: str
    token: str = field(repr=False)
    timeout: float

    @classmethod
    def of(cls, url: str, token: str, timeout: float) -> _Service:
        url = url or os.environ.get("AUDITSVC_URL", "http://127.0.0.1:8600")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"not the address of a service: {url!r}; try http://127.0.0.1:8600")
        return cls(url.rstrip("/"), token or os.environ.get("AUDITSVC_TOKEN", ""), timeout)

    def options(self) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout, "follow_redirects": False}

    def unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(f"the service at {self.url} does not answer: {error}")


def _partial(file: Path) -> Path:
    """A download's temporary name: the file appears whole or not at all."""
    return file.with_name(f".{file.name}.partial")


class Client:
    """Calls one service; safe to use from several threads, which share its connections."""

    def __init__(self, url: str = "", token: str = "", timeout: float = 30.0) -> None:
        """``url`` and ``token`` default to ``AUDITSVC_URL`` and ``AUDITSVC_TOKEN``; ``timeout`` is in seconds."""
        self._service = _Service.of(url, token, timeout)
        self._http = httpx2.Client(**self._service.options())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client itself; leaving the block closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def _run(self, call: Call[T]) -> T:
        try:
            step: Step = next(call)
            while True:
                try:
                    body = self._take(step)
                except AuditError as error:
                    step = call.throw(error)
                else:
                    step = call.send(body)
        except StopIteration as done:
            result: T = done.value
            return result

    def _take(self, step: Step) -> bytes:
        if isinstance(step, Request):
            return self._respond(step)
        time.sleep(step.seconds)
        return b""

    def _respond(self, request: Request) -> bytes:
        body = request.body
        try:
            content = _chunks(body) if isinstance(body, Path) else body
            with self._http.stream(request.method, request.path, content=content, headers=request.headers) as response:
                if response.status_code >= 300:
                    raise calls.error_of(response.status_code, response.read())
                if request.save_as is None:
                    return response.read()
                partial = _partial(request.save_as)
                with partial.open("wb") as out:
                    for data in response.iter_bytes():
                        out.write(data)
                partial.replace(request.save_as)
                return b""
        except (OSError, httpx2.HTTPError) as error:
            raise self._service.unavailable(error) from error

    def iter_records(self, kind: type[R], about: str | None = None) -> Iterator[R]:
        """All records of a kind, newest first, page after page; ``about`` is a digest or name that they refer to."""
        cursor: str | None = None
        while True:
            page, cursor = self._run(calls.record_page(kind, about, cursor))
            yield from page
            if cursor is None:
                return

    call = _blocking(calls.call)
    gate = _blocking(calls.gate)
    require = _blocking(calls.require)
    get_record = _blocking(calls.get_record)
    propose_terms = _blocking(calls.propose_terms)
    confirm_terms = _blocking(calls.confirm_terms)
    approve = _blocking(calls.approve)
    waive = _blocking(calls.waive)
    release = _blocking(calls.release)
    revoke = _blocking(calls.revoke)
    rollback = _blocking(calls.rollback)
    download_release = _blocking(calls.download_release)
    download_report = _blocking(calls.download_report)
    verify = _blocking(calls.verify)
    provenance = _blocking(calls.provenance)
    identify = _blocking(calls.identify)
    log_checkpoint = _blocking(calls.log_checkpoint)
    backtest_policy = _blocking(calls.backtest_policy)
    upload = _blocking(calls.upload)
    submit_job = _blocking(calls.submit_job)
    get_job = _blocking(calls.get_job)
    list_jobs = _blocking(calls.list_jobs)
    wait_for_job = _blocking(calls.wait_for_job)
    cancel_job = _blocking(calls.cancel_job)
    retry_job = _blocking(calls.retry_job)
    create_statement = _blocking(calls.create_statement)
    review_statement = _blocking(calls.review_statement)
    report_incident = _blocking(calls.report_incident)
    download_document = _blocking(calls.download_document)
    whoami = _blocking(calls.whoami)
    list_tokens = _blocking(calls.list_tokens)
    issue_token = _blocking(calls.issue_token)
    revoke_token = _blocking(calls.revoke_token)
    list_webhooks = _blocking(calls.list_webhooks)
    create_webhook = _blocking(calls.create_webhook)
    delete_webhook = _blocking(calls.delete_webhook)
    list_deliveries = _blocking(calls.list_deliveries)
    redeliver = _blocking(calls.redeliver)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as data:
        while chunk := data.read(_CHUNK):
            yield chunk


async def _async_chunks(file: Path) -> AsyncIterator[bytes]:
    import asyncio

    with file.open("rb") as data:
        while chunk := await asyncio.to_thread(data.read, _CHUNK):
            yield chunk


class AsyncClient:
    """``Client`` with awaitable methods; use it in one event loop, best with ``async with``."""

    def __init__(self, url: str = "", token: str = "", timeout: float = 30.0) -> None:
        """``url`` and ``token`` default to ``AUDITSVC_URL`` and ``AUDITSVC_TOKEN``; ``timeout`` is in seconds."""
        self._service = _Service.of(url, token, timeout)
        self._http = httpx2.AsyncClient(**self._service.options())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself; leaving the block closes it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.aclose()

    async def _run(self, call: Call[T]) -> T:
        try:
            step: Step = next(call)
            while True:
                try:
                    body = await self._take(step)
                except AuditError as error:
                    step = call.throw(error)
                else:
                    step = call.send(body)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _take(self, step: Step) -> bytes:
        if isinstance(step, Request):
            return await self._respond(step)
        import asyncio

        await asyncio.sleep(step.seconds)
        return b""

    async def _respond(self, request: Request) -> bytes:
        body = request.body
        try:
            content = _async_chunks(body) if isinstance(body, Path) else body
            stream = self._http.stream(request.method, request.path, content=content, headers=request.headers)
            async with stream as response:
                if response.status_code >= 300:
                    raise calls.error_of(response.status_code, await response.aread())
                if request.save_as is None:
                    return await response.aread()
                partial = _partial(request.save_as)
                with partial.open("wb") as out:
                    async for data in response.aiter_bytes():
                        out.write(data)
                partial.replace(request.save_as)
                return b""
        except (OSError, httpx2.HTTPError) as error:
            raise self._service.unavailable(error) from error

    async def iter_records(self, kind: type[R], about: str | None = None) -> AsyncIterator[R]:
        """All records of a kind, newest first, page after page; ``about`` is a digest or name that they refer to."""
        cursor: str | None = None
        while True:
            page, cursor = await self._run(calls.record_page(kind, about, cursor))
            for record in page:
                yield record
            if cursor is None:
                return

    call = _awaitable(calls.call)
    gate = _awaitable(calls.gate)
    require = _awaitable(calls.require)
    get_record = _awaitable(calls.get_record)
    propose_terms = _awaitable(calls.propose_terms)
    confirm_terms = _awaitable(calls.confirm_terms)
    approve = _awaitable(calls.approve)
    waive = _awaitable(calls.waive)
    release = _awaitable(calls.release)
    revoke = _awaitable(calls.revoke)
    rollback = _awaitable(calls.rollback)
    download_release = _awaitable(calls.download_release)
    download_report = _awaitable(calls.download_report)
    verify = _awaitable(calls.verify)
    provenance = _awaitable(calls.provenance)
    identify = _awaitable(calls.identify)
    log_checkpoint = _awaitable(calls.log_checkpoint)
    backtest_policy = _awaitable(calls.backtest_policy)
    upload = _awaitable(calls.upload)
    submit_job = _awaitable(calls.submit_job)
    get_job = _awaitable(calls.get_job)
    list_jobs = _awaitable(calls.list_jobs)
    wait_for_job = _awaitable(calls.wait_for_job)
    cancel_job = _awaitable(calls.cancel_job)
    retry_job = _awaitable(calls.retry_job)
    create_statement = _awaitable(calls.create_statement)
    review_statement = _awaitable(calls.review_statement)
    report_incident = _awaitable(calls.report_incident)
    download_document = _awaitable(calls.download_document)
    whoami = _awaitable(calls.whoami)
    list_tokens = _awaitable(calls.list_tokens)
    issue_token = _awaitable(calls.issue_token)
    revoke_token = _awaitable(calls.revoke_token)
    list_webhooks = _awaitable(calls.list_webhooks)
    create_webhook = _awaitable(calls.create_webhook)
    delete_webhook = _awaitable(calls.delete_webhook)
    list_deliveries = _awaitable(calls.list_deliveries)
    redeliver = _awaitable(calls.redeliver)
