"""The checkpoint that the service shows: signed once for each size, kept, and never taken back.

If the database comes back from an old backup, the log no longer continues what was published, and nothing is signed
until it does.
"""

from __future__ import annotations

from auditsvc.api.site import Site
from auditsvc.provenance.published import Published


def current_checkpoint(site: Site) -> str:
    """The signed checkpoint of the log as it stands.

    Raises:
        Conflict: the log does not continue what it has published.
        Unavailable: the store or the keys can't be read or written, or too few witnesses answer.
    """
    ports = site.ports
    return Published(ports.checkpoint or site.folder / "checkpoint", site.keys, site.ledger, ports.witnesses).current()
