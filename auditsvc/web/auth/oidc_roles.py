"""Roles of users who log in through an OIDC issuer, from their groups, in one or several projects.

``AUDITSVC_OIDC_ROLES`` maps groups to roles: ``ml-leads=approver, plates-qa=auditor@plates``.  A validated token is
cached until it expires, for at most a minute, so that removed users lose access soon.

A person is a subject of the issuer.  The name in the ledger is one claim of the token at the first login: the same
subject keeps it, and no other subject gets it.  An API token with the same name counts as the same person.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from auditsvc.errors import Forbidden, InvalidInput, Unauthenticated
from auditsvc.web.auth.token_store import ROLES, Caller

if TYPE_CHECKING:
    from auditsvc.adapters.oidc import Claims, OidcIssuer

CACHE_S = 60.0
MAX_CACHED = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

RoleGrants = dict[str, tuple[tuple[str, str], ...]]
"""For each group, pairs of role and project."""


def parse_role_grants(text: str, projects: tuple[str, ...]) -> RoleGrants:
    """What groups may do, as the setting says.

    Raises:
        InvalidInput: not in that form, or a role or project that is not there; lists every fault.
    """
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    faults = []
    for part in filter(None, map(str.strip, text.split(","))):
        group, equals, granted = part.rpartition("=")
        role, _, project = granted.strip().partition("@")
        if not equals or not group.strip():
            faults.append(f"{part!r} is not GROUP=ROLE or GROUP=ROLE@PROJECT")
        elif role not in ROLES:
            faults.append(f"{part!r} names no role; there are {', '.join(ROLES)}")
        elif project and project not in projects:
            faults.append(f"{part!r} names no project of AUDITSVC_PROJECTS")
        else:
            found[group.strip()].append((role, project))
    if faults:
        raise InvalidInput("AUDITSVC_OIDC_ROLES can't be used", faults)
    return {group: tuple(pairs) for group, pairs in found.items()}


class OidcUsers:
    """Callers out of the issuer's tokens."""

    def __init__(self, issuer: OidcIssuer, grants: RoleGrants, bind: Callable[[str, str, str], str]) -> None:
        """``bind`` gives the name that a subject of an issuer has in the ledger; see ``TokenStore.bind``."""
        self.issuer, self._grants, self._bind = issuer, grants, bind
        self._checked: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()

    def caller(self, token: str, project: str | None) -> Caller:
        """Whose token this is, with the roles in this project, or in the only one.

        Raises:
            Unauthenticated: the token is not good.
            Forbidden: it is, but gives no role here.
            Unavailable: the issuer can't be asked.
        """
        return self.caller_of(self._claims(token), project)

    def caller_of(self, claims: Claims, project: str | None) -> Caller:
        """The caller that these claims speak of.

        Raises:
            Unauthenticated: the name can't be used in the ledger.
            Forbidden: no role here, or the name is another person's.
        """
        if not _NAME.fullmatch(claims.name):
            raise Unauthenticated(
                f"the issuer calls this person {claims.name[:100]!r}; a name in the ledger has letters, digits, . _ -"
            )
        roles: defaultdict[str, list[str]] = defaultdict(list)
        for group in claims.groups:
            for role, where in self._grants.get(group, ()):
                roles[where].append(role)
        if not roles:
            raise Forbidden(f"no group of {claims.name} has a role here; an admin sets AUDITSVC_OIDC_ROLES")
        chosen = project if project is not None else "" if "" in roles or len(roles) > 1 else next(iter(roles))
        if chosen not in roles:
            known = ", ".join(sorted(name or "(the first)" for name in roles))
            raise Forbidden(f"say which project in the header Auditsvc-Project; {claims.name} has roles in: {known}")
        name = self._bind(self.issuer.url, claims.subject, claims.name)
        issuer = f"oidc:{self.issuer.url}"
        return Caller(name, tuple(dict.fromkeys(roles[chosen])), f"oidc:{claims.subject}", chosen, issuer)

    def _claims(self, token: str) -> Claims:
        key, now = hashlib.sha256(token.encode()).digest(), time.time()
        known = self._checked.get(key)
        if known is not None and now < known[0]:
            return known[1]
        claims = self.issuer.claims(token)
        self._checked[key] = (min(claims.expires, now + CACHE_S), claims)
        if len(self._checked) > MAX_CACHED:
            self._checked.popitem(last=False)
        return claims
