"""The routes that read records, one by its digest or a list in pages, and the forms that make them.

A record never changes, so its digest is its entity tag and the answer can be cached for ever. One record is sent as its
canonical JSON (RFC 8785), and the SHA-256 of the body is its digest, so a client can check it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, cast

from fastapi import Path, Query, Request
from pydantic import BaseModel, create_model
from starlette.responses import RedirectResponse, Response

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest, Record
from auditsvc.services.statements import parse_draft
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Access
from auditsvc.web.rendering import Form

R = TypeVar("R", bound=Record)

MAX_PAGE = 100
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}

ADigest = Annotated[Digest, Path(description="The record's digest: SHA-256 over its canonical JSON.")]
Cursor = Annotated[str | None, Query(max_length=40, description="`next` of the previous page.")]
PATHS: dict[type[Record], str] = {}
"""Where records of each kind are read; ``record_router`` fills it."""

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Records in a page.")]


def _page_model(kind: type[Record]) -> type[BaseModel]:
    """The model of a page of records, with names of its own in the OpenAPI document (``PolicyPage``)."""
    fields: dict[str, Any] = {"digest": (Digest, ...), "record": (kind, ...)}
    envelope = create_model(f"{kind.__name__}Envelope", __doc__="A record with its digest.", **fields)
    fields = {"items": (list[envelope], ...), "next": (str | None, None)}
    words = "Records, newest first; `next` is null on the last page."
    return create_model(f"{kind.__name__}Page", __doc__=words, **fields)


def record_router(router: Router, kind: type[R], plural: str, *, about: str, singular: str = "") -> None:
    """Add the two routes that read records of a kind.

    ``plural`` names the path and, with the singular, the operation ids (``/v1/alias-moves``, ``get_alias_move``,
    ``list_alias_moves``); ``about`` describes the filter ``subject``.
    """
    path = PATHS[kind] = f"/v1/{plural.replace('_', '-')}"
    singular = singular or plural.removesuffix("s")
    subjects = Query(None, min_length=1, max_length=300, description=about)

    def list_(request: Request, subject: str | None = subjects, cursor: Cursor = None, limit: Limit = 20) -> Response:
        return list_records(request, kind, subject, cursor, limit)

    def get(request: Request, digest: ADigest) -> Response:
        return get_record(request, site_of(request).ledger.get(kind, digest))

    summary = (kind.__doc__ or "").split("\n")[0]
    get.__doc__ = f"{summary}\n\nThe body is the canonical JSON (RFC 8785); its SHA-256 is the digest."
    list_.__doc__ = f"Newest first. {summary}"
    words = plural.replace("_", " ")
    router.get(path, needs="reader", response_model=_page_model(kind), name=f"list_{plural}", summary=f"List {words}")(
        list_
    )
    router.get(
        path + "/{digest}",
        needs="reader",
        response_model=kind,
        responses={304: {"description": "Not modified."}},
        name=f"get_{singular}",
        summary=f"Get {'' if singular == plural else 'one '}{singular.replace('_', ' ')}",
    )(get)


def list_records(request: Request, kind: type[R], subject: str | None, cursor: str | None, limit: int) -> Response:
    """One page of records.  One more record than asked for is read, to know whether there is another page.

    Raises:
        InvalidInput: the cursor is not one of this service.
    """
    found = site_of(request).ledger.page(kind, subject=subject or "", before=_position(cursor), limit=limit + 1)
    shown = found[:limit]
    after = _cursor(shown[-1][0]) if len(found) > limit else None
    items = (b'{"digest":"%b","record":%b}' % (one.digest.encode(), one.canonical()) for _, one in shown)
    body = b'{"items":[%b],"next":%b}' % (b",".join(items), json.dumps(after).encode())
    return Response(body, media_type="application/json")


def get_record(request: Request, record: Record) -> Response:
    """One record as its canonical JSON; `304` where the client's copy is current."""
    headers = {"etag": f'"{record.digest}"', **IMMUTABLE}
    if is_current(request, headers["etag"]):
        return Response(None, 304, headers)
    return Response(record.canonical(), 200, headers, "application/json")


def created(record: Record) -> Response:
    """A record that was just made: `201` with its place, or `202` for a request, which is read at no place."""
    path = PATHS.get(type(record))
    headers = {"etag": f'"{record.digest}"'} | ({"location": f"{path}/{record.digest}"} if path else {})
    return Response(record.canonical(), 201 if path else 202, headers, "application/json")


def form_route(
    router: Router,
    path: str,
    needs: str,
    create: Callable[..., object],
    draft: type[BaseModel] | None,
    back: Callable[[Request, str], str],
    fields: Callable[[dict[str, str]], Mapping[str, Any]] = dict,
) -> None:
    """Add the form of a page that does what the route ``create`` of the API does, and then shows the page ``back``.

    ``draft`` is what the API takes; ``fields`` makes its fields of those of the form, of which an empty one counts as
    left out.  None for a button without fields.
    """

    def shown(request: Request, digest: str = "") -> Response:
        return RedirectResponse(back(request, digest), 303)

    def of_record(request: Request, digest: ADigest, given: Form) -> Response:
        create(request, digest, parse_draft(draft or BaseModel, fields(given)))
        return shown(request, digest)

    def of_new(request: Request, given: Form) -> Response:
        create(request, parse_draft(draft or BaseModel, fields(given)))
        return shown(request)

    def of_button(request: Request, digest: ADigest) -> Response:
        create(request, digest)
        return shown(request, digest)

    router.post(path, needs=cast(Access, needs))(
        of_button if draft is None else of_record if "{digest}" in path else of_new
    )


_TAGS = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def is_current(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names this strong tag: weak comparison, lists and ``*`` (RFC 9110, 8.8.3.2, 13.1.2)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or etag in _TAGS.findall(given)


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
        raise InvalidInput("the cursor is not valid; use `next` of the previous page, or leave it out")
    return int(number)
