"""Taking a release back, or going back to an earlier one, takes two people: one asks and says why, another confirms.

What was asked for waits in a table of the service; what is confirmed is a ``Revocation`` or a ``Rollback`` in the
ledger, and no record has the same person twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Table, delete, insert, select

from auditsvc.api.remembering import recall, way_back
from auditsvc.api.site import Site
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.records import Digest, Moment, Name, Release, Revocation, Rollback, Text, Value


class Asked(Value):
    """What was asked for about a release, and waits for a second person."""

    release: Digest
    reason: Text
    person: Name
    at: Moment


@dataclass(frozen=True)
class Waiting:
    """What is asked for, one thing for each release: its table, its event in the log, and what it is in words."""

    table: Table
    event: str
    words: str

    def asked_of(self, site: Site, release: Digest) -> Asked | None:
        """What was asked for and is not confirmed yet; None where nobody asked."""
        with site.access.looking() as connection:
            row = connection.execute(select(self.table).where(self.table.c.release == release)).mappings().first()
        return Asked(**row) if row else None

    def second(self, site: Site, release: Digest, person: str, reason: str | None) -> tuple[Asked, bool]:
        """What was asked for, and whether this person is the second; the first one asks now.

        Raises:
            InvalidInput: the first to ask gives no reason.
            Conflict: who asked can't confirm.
        """
        asked = self.asked_of(site, release)
        if asked is not None:
            if asked.person.lower() == person.lower():
                raise Conflict(f"you asked for this {self.words}; another person must confirm it")
            return asked, True
        if reason is None:
            raise InvalidInput(f"nobody asked for this {self.words} yet: say why")
        asked = Asked(release=release, reason=reason, person=person, at=site.clock.now())
        row = {"release": release, "reason": reason, "person": person, "at": asked.at.isoformat()}
        with site.access.changing() as connection:
            connection.execute(insert(self.table), row)
        site.note(self.event, person, object=release)
        return asked, False

    def done(self, site: Site, release: Digest) -> None:
        """It waits no longer."""
        with site.access.changing() as connection:
            connection.execute(delete(self.table).where(self.table.c.release == release))


RECALLS = Waiting(recall, "recall-asked", "recall")
RETURNS = Waiting(way_back, "return-asked", "way back")


def ask_or_confirm(site: Site, release: Release, person: str, reason: str | None) -> Asked | Revocation:
    """Ask for a recall, or confirm the one that another person asked for.  Raises as ``Waiting.second``."""
    from auditsvc.pipeline.releasing import revoke

    done = site.ledger.find(Revocation, release.digest)
    if done:
        return done[0]
    asked, confirmed = RECALLS.second(site, release.digest, person, reason)
    if not confirmed:
        return asked
    revocation = revoke(release, asked.reason, asked.person, person, site.ports)
    RECALLS.done(site, release.digest)
    return revocation


def ask_or_go_back(site: Site, release: Release, person: str, reason: str | None) -> Asked | Rollback:
    """Ask to go back to this release, or confirm it.

    Raises:
        InvalidInput, Conflict: as ``Waiting.second``.
        NotApproved: the gate does not say yes to it any more, or it does not verify.
    """
    from auditsvc.pipeline.rolling import roll_back

    asked, confirmed = RETURNS.second(site, release.digest, person, reason)
    if not confirmed:
        return asked
    made = roll_back(release.model, release.version, asked.reason, asked.person, person, site.ports)
    RETURNS.done(site, release.digest)
    return made
