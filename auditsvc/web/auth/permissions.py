"""Roles and callers: what a token allows.

``reader`` is included in every role. Beyond that no role includes another, so that different people submit a release
(``submitter``), measure and sign it (``auditor``), approve it (``approver``) and manage tokens (``admin``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from auditsvc.errors import Forbidden, Unauthenticated

Role = Literal["reader", "submitter", "auditor", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

Access = Literal["anyone", "hmac"] | Role
"""What a route needs: a role; ``anyone`` for no token; ``hmac`` for a signature over the body that the route checks."""

OPEN = ("anyone", "hmac")
"""Access without a token."""

COOKIE, HOST_COOKIE = "auditsvc_session", "__Host-auditsvc_session"
"""The cookie that holds a browser's session; the second one where the public URL is https: browsers take and send it
over TLS alone, and no other host of the domain can set it."""

PROJECT = "auditsvc-project"
"""The header with which a caller who has roles in several projects chooses one."""


@dataclass(frozen=True)
class Caller:
    """A person or program with roles in one project; ``name`` is what the ledger records."""

    name: str
    roles: tuple[str, ...]
    token: str = ""
    """The id of the token, not its secret; empty for a local reader without a token."""
    project: str = ""
    issuer: str = ""
    """Who issued the token: an admin, or ``oidc:`` and an issuer; empty for the operator's own."""

    @property
    def role(self) -> str:
        """The roles, separated by commas."""
        return ", ".join(self.roles)

    def may(self, needed: str) -> bool:
        """Whether the caller has the role; everyone has ``reader``."""
        return needed == "reader" or needed in self.roles


LOCAL = Caller("local", ("reader",))
"""A caller on this machine without a token, while the service is bound to loopback."""


def require_role(caller: Caller, needed: Access) -> None:
    """Check that the caller has the role that a route needs.

    Raises:
        Unauthenticated: the caller has no token.
        Forbidden: the caller's roles don't include it.
    """
    if not caller.may(needed):
        if not caller.token:
            raise Unauthenticated(f"this needs a token with the role {needed}; ask an admin for one")
        raise Forbidden(f"this needs the role {needed}; {caller.name} has the role {caller.role}")
