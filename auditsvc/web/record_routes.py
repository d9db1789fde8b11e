"""Reading records: one by its digest, many a page at a time.

A record never changes, so its digest is its entity tag, and what was read once may be kept for ever.  One record is
sent as its canonical bytes: their SHA-256 is its digest, so that whoever reads one can check it.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest, Record
from auditsvc.web.authentication import site_of
from auditsvc.web.state import ProjectState

R = TypeVar("R", bound=Record)

MOST = 100
FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}

ADigest = Annotated[Digest, Path(description="The record's name: SHA-256 over its canonical bytes.")]
Cursor = Annotated[str | None, Query(max_length=40, description="Where to go on: `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Records in a page.")]


class RecordEnvelope(BaseModel, Generic[R]):
    """A record with its digest."""

    digest: Digest
    record: R

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """A short name for the OpenAPI document."""
        return f"Kept{params[0].__name__}"


class Page(BaseModel, Generic[R]):
    """Records, newest first; `next` is null on the last page."""

    items: list[RecordEnvelope[R]]
    next: str | None = None

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """A short name for the OpenAPI document."""
        return f"{params[0].__name__}Page"


def record_router(router: APIRouter, kind: type[R], path: str, *, many: str, about: str, means: str) -> None:
    """Add the two routes that read a kind of record; ``about`` names the filter and ``means`` says what it takes."""
    subject = Query(None, alias=about, min_length=1, max_length=300, description=means)

    def several(request: Request, subject: str | None = subject, cursor: Cursor = None, limit: Limit = 20) -> Response:
        return list_records(request, kind, subject, cursor, limit)

    def one(request: Request, digest: ADigest) -> Response:
        site: ProjectState = site_of(request)
        return get_record(request, site.ledger.get(kind, digest))

    one.__doc__ = f"{_first_line(kind)}\n\nThe body is the canonical JSON (RFC 8785); its SHA-256 is the digest."
    several.__doc__ = f"Newest first. {_first_line(kind)}"
    options: dict[str, Any] = {"methods": ["GET"]}
    router.add_api_route(
        path,
        several,
        response_model=_page_of(kind),
        summary=many,
        name=f"list_{kind.__name__.lower()}",
        **options,
    )
    router.add_api_route(
        path + "/{digest}",
        one,
        response_model=kind,
        responses={304: {"description": "As you know it."}},
        summary=f"One {kind.kind.replace('-', ' ')}",
        name=f"get_{kind.__name__.lower()}",
        **options,
    )


def _page_of(kind: type[R]) -> Any:
    """The type of a page of this kind, which only exists while the program runs."""
    generic: Any = Page
    return generic[kind]


def _first_line(kind: type[Record]) -> str:
    return (kind.__doc__ or "").split("\n")[0]


def list_records(request: Request, kind: type[R], subject: str | None, cursor: str | None, limit: int) -> Response:
    """One page.  One record more than asked for is read, to know whether there is another page."""
    site: ProjectState = site_of(request)
    found = site.ledger.page(kind, subject=subject or "", before=_position(cursor), limit=limit + 1)
    shown = found[:limit]
    after = _cursor(shown[-1][0]) if len(found) > limit else None
    items = (b'{"digest":"%b","record":%b}' % (one.digest.encode(), one.canonical()) for _, one in shown)
    body = b'{"items":[%b],"next":%b}' % (b",".join(items), json.dumps(after).encode())
    return Response(body, media_type="application/json")


def get_record(request: Request, record: Record, status: int = 200, where: str | None = None) -> Response:
    """One record as its canonical bytes; without a body where the client has it already."""
    headers = {"etag": f'"{record.digest}"', **FOR_EVER}
    if status == 200 and headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    if where:
        headers = {"location": f"{where}/{record.digest}", "etag": headers["etag"]}
    return Response(record.canonical(), status, headers, "application/json")


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"before {position}".encode()).decode().rstrip("=")


def _position(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        words, _, number = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
    except (binascii.Error, ValueError):
        words, number = "", ""
    if words != "before" or not number.isdecimal() or len(number) > 18:
        raise InvalidInput("that is no cursor of ours; take `next` of the page before, or leave it out")
    return int(number)
