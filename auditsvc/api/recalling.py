"""Taking a release back takes two people: one asks and says why, another confirms.

What was asked for waits in ``access.db``; a recall that is confirmed is a ``Revocation`` in the ledger, and the
ledger's own constraint refuses one whose two people are one.
"""

from __future__ import annotations

from auditsvc.api.site import Site
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.records import Digest, Moment, Name, Release, Revocation, Text, Value


class Asked(Value):
    """A recall that waits for a second person."""

    release: Digest
    reason: Text
    person: Name
    at: Moment


def asked_of(site: Site, release: Digest) -> Asked | None:
    """What was asked for and is not confirmed yet; None where nobody asked."""
    with site.access.changing() as connection:
        query = "SELECT release, reason, person, at FROM recall WHERE release = ?"
        row = connection.execute(query, (release,)).fetchone()
    return Asked(release=row[0], reason=row[1], person=row[2], at=row[3]) if row else None


def ask_or_confirm(site: Site, release: Release, person: str, reason: str | None) -> Asked | Revocation:
    """Ask for a recall, or confirm the one that another person asked for.

    Raises:
        InvalidInput: the first to ask gives no reason.
        Conflict: who asked can't confirm.
    """
    from auditsvc.pipeline.releasing import revoke

    done = site.ledger.find(Revocation, release.digest)
    if done:
        return done[0]
    asked = asked_of(site, release.digest)
    if asked is None:
        return _ask(site, release.digest, person, reason)
    if asked.person.lower() == person.lower():
        raise Conflict("you asked for this recall; another person must confirm it")
    revocation = revoke(release, asked.reason, asked.person, person, site.ports)
    with site.access.changing() as connection:
        connection.execute("DELETE FROM recall WHERE release = ?", (release.digest,))
    return revocation


def _ask(site: Site, release: Digest, person: str, reason: str | None) -> Asked:
    if reason is None:
        raise InvalidInput("nobody asked for this recall yet: say why it must not be used any more")
    asked = Asked(release=release, reason=reason, person=person, at=site.clock.now())
    row = (release, reason, person, asked.at.isoformat())
    with site.access.changing() as connection:
        connection.execute("INSERT INTO recall (release, reason, person, at) VALUES (?,?,?,?)", row)
    site.note("recall-asked", person, object=release)
    return asked
