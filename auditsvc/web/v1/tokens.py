"""Tokens: an admin issues and revokes them; both are events in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import Path, Request
from pydantic import BaseModel, Field

from auditsvc.errors import Forbidden, NotFound
from auditsvc.records import Name
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Token
from auditsvc.web.state import ProjectState

router = Router(tags=["tokens"])


class TokenRequest(BaseModel):
    """The person or program, its role, and how long the token is valid."""

    name: Annotated[Name, Field(description="The person or program; the ledger records it as the actor.")]
    role: Literal["reader", "submitter", "auditor", "approver", "admin"]
    days: Annotated[int, Field(ge=1, le=366)] = 90
    project: Annotated[str | None, Field(max_length=40, description="Your own project by default.")] = None


class IssuedToken(BaseModel):
    """A new token. Its secret is shown only once."""

    token: str
    about: Token


class CallerView(BaseModel):
    """The authenticated caller."""

    name: str
    role: str
    project: str = ""


@router.get("/v1/tokens", needs="admin", summary="List tokens")
def list_tokens(request: Request) -> list[Token]:
    """All tokens, including expired and revoked ones; never their secrets."""
    return list(_visible_tokens(request))


@router.post("/v1/tokens", needs="admin", status_code=201, summary="Issue a token")
def create_token(request: Request, token_request: TokenRequest) -> IssuedToken:
    """A token has a name, a role and an expiry; it records you as its issuer.

    Use one name for each person. Who issued the tokens of two people, or of one of them, can't be the second person for
    the other, and neither can the two for each other: two admins, or an OIDC issuer, are needed for separate duties.
    """
    own: ProjectState = site_of(request)
    site = own if token_request.project is None else _project(request, token_request.project)
    person = request.state.caller.name
    secret, token = site.access.issue(
        token_request.name, token_request.role, token_request.days, site.project, issuer=person
    )
    site.log_event("token.issued", person, token=token.id, name=token.name, role=token.role)
    request.state.shown_once = True
    return IssuedToken(token=secret, about=token)


@router.delete("/v1/tokens/{id}", needs="admin", summary="Revoke a token")
def revoke_token(request: Request, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]) -> Token:
    """The token is refused from the next request on. Revoking it again changes nothing."""
    site: ProjectState = site_of(request)
    if not any(token.id == id for token in _visible_tokens(request)):
        raise NotFound(f"no token {id}")
    token = site.access.revoke(id)
    site.log_event("token.revoked", request.state.caller.name, token=token.id, name=token.name)
    return token


@router.get("/v1/whoami", needs="reader", summary="Get the authenticated caller")
async def get_whoami(request: Request) -> CallerView:
    """The name, role and project of your token."""
    caller = request.state.caller
    return CallerView(name=caller.name, role=caller.role, project=caller.project)


def _visible_tokens(request: Request) -> Iterator[Token]:
    """An admin of the default project sees all tokens, an admin of another project only its own."""
    site: ProjectState = site_of(request)
    return (token for token in site.access.tokens() if not site.project or token.project == site.project)


def _project(request: Request, name: str) -> ProjectState:
    site: ProjectState = site_of(request)
    if site.project not in ("", name):
        raise Forbidden(f"you are an admin of {site.project}; an admin of {name} issues tokens for that project")
    return site.of(name)
