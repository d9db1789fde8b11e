"""Tokens: an admin hands them out and takes them back; both are events in the log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from auditsvc.api.access import Token
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.records import Name

router = APIRouter(route_class=RoleRoute, tags=["tokens"])


class Wanted(BaseModel):
    """Whose token, for what, and for how long."""

    name: Annotated[Name, Field(description="The person or program; it stands in the ledger for what they do.")]
    role: Literal["reader", "submitter", "auditor", "approver", "admin"]
    days: Annotated[int, Field(ge=1, le=366)] = 90


class Issued(BaseModel):
    """A new token; it is shown here and never again."""

    token: str
    about: Token


class Caller(BaseModel):
    """Who the service takes you for."""

    name: str
    role: str


@router.get("/v1/tokens", summary="Tokens")
def tokens(request: Request) -> list[Token]:
    """All that were ever issued, with their ends; never the tokens themselves."""
    site: Site = request.app.state.site
    return list(site.access.tokens())


@router.post("/v1/tokens", status_code=201, summary="Issue a token")
def issue(request: Request, wanted: Wanted) -> Issued:
    """One person, one role, an end.  People are told apart by name: one name for each person."""
    site: Site = request.app.state.site
    secret, token = site.access.issue(wanted.name, wanted.role, wanted.days)
    site.note("token-issued", request.state.caller.name, token=token.id, name=token.name, role=token.role)
    return Issued(token=secret, about=token)


@router.delete("/v1/tokens/{id}", summary="Take a token back")
def revoke(request: Request, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]) -> Token:
    """Refused from the next request on; doing it again changes nothing."""
    site: Site = request.app.state.site
    token = site.access.revoke(id)
    site.note("token-revoked", request.state.caller.name, token=token.id, name=token.name)
    return token


@router.get("/v1/whoami", summary="Who am I?")
async def whoami(request: Request) -> Caller:
    """The name and role that your token carries."""
    caller = request.state.caller
    return Caller(name=caller.name, role=caller.role)
