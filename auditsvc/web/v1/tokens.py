"""Tokens: an admin hands them out and takes them back; both are events in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from auditsvc.errors import Forbidden, NotFound
from auditsvc.records import Name
from auditsvc.web.auth.token_store import Token
from auditsvc.web.authentication import site_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["tokens"])


class Wanted(BaseModel):
    """Whose token, for what, and for how long."""

    name: Annotated[Name, Field(description="The person or program; it stands in the ledger for what they do.")]
    role: Literal["reader", "submitter", "auditor", "approver", "admin"]
    days: Annotated[int, Field(ge=1, le=366)] = 90
    project: Annotated[str | None, Field(max_length=40, description="Yours, if left out.")] = None


class Issued(BaseModel):
    """A new token; it is shown here and never again."""

    token: str
    about: Token


class Caller(BaseModel):
    """Who the service takes you for."""

    name: str
    role: str
    project: str = ""


@router.get("/v1/tokens", summary="Tokens")
def tokens(request: Request) -> list[Token]:
    """All that were ever issued, with their ends; never the tokens themselves."""
    return list(_seen_by(request))


@router.post("/v1/tokens", status_code=201, summary="Issue a token")
def issue(request: Request, wanted: Wanted) -> Issued:
    """One person, one role, an end.  People are told apart by name: one name for each person."""
    own: ProjectState = site_of(request)
    site = own if wanted.project is None else _project(request, wanted.project)
    secret, token = site.access.issue(wanted.name, wanted.role, wanted.days, site.project)
    site.log_event("token.issued", request.state.caller.name, token=token.id, name=token.name, role=token.role)
    return Issued(token=secret, about=token)


@router.delete("/v1/tokens/{id}", summary="Take a token back")
def revoke(request: Request, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]) -> Token:
    """Refused from the next request on; doing it again changes nothing."""
    site: ProjectState = site_of(request)
    if not any(token.id == id for token in _seen_by(request)):
        raise NotFound(f"no token {id}")
    token = site.access.revoke(id)
    site.log_event("token.revoked", request.state.caller.name, token=token.id, name=token.name)
    return token


@router.get("/v1/whoami", summary="Who am I?")
async def whoami(request: Request) -> Caller:
    """The name and role that your token carries."""
    caller = request.state.caller
    return Caller(name=caller.name, role=caller.role, project=caller.project)


def _seen_by(request: Request) -> Iterator[Token]:
    """An admin of the first project looks after the whole installation, another after one project."""
    site: ProjectState = site_of(request)
    return (token for token in site.access.tokens() if not site.project or token.project == site.project)


def _project(request: Request, name: str) -> ProjectState:
    site: ProjectState = site_of(request)
    if site.project not in ("", name):
        raise Forbidden(f"you are an admin of {site.project}; tokens of other projects are handed out there")
    return site.of(name)
