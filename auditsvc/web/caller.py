"""Who sends a request: a name and roles."""

from __future__ import annotations

from dataclasses import dataclass

COOKIE = "auditsvc_token"


PROJECT = "auditsvc-project"
"""The header in which a caller with roles in several projects says which one is meant."""


@dataclass(frozen=True)
class Caller:
    """A person or program with roles in one project; ``name`` is what stands in the ledger."""

    name: str
    roles: tuple[str, ...]
    token: str = ""
    """The id of the token (not the token); empty for a reader without one."""
    project: str = ""

    @property
    def role(self) -> str:
        """The roles in words."""
        return ", ".join(self.roles)

    def may(self, needed: str) -> bool:
        """Whether this caller has the role; ``reader`` is in all of them."""
        return needed == "reader" or needed in self.roles


LOCAL = Caller("local", ("reader",))
