"""The checkpoint that the service shows: signed once for each size, kept, and never taken back.

What was published last lies in ``checkpoint`` in the store, outside the database.  If the database comes back from an
old backup, the log no longer continues what was published, and nothing is signed until it does.
"""

from __future__ import annotations

from threading import Lock

from auditsvc.api.site import Site
from auditsvc.errors import Conflict
from auditsvc.provenance.layout import read_or_none, write_whole
from auditsvc.provenance.notes import Checkpoint, NoteKey, open_checkpoint, sign_checkpoint
from auditsvc.provenance.strict import Fault
from auditsvc.provenance.trust import log_origin
from auditsvc.provenance.witness import check_restored

_one_at_a_time = Lock()


def current_checkpoint(site: Site) -> str:
    """The signed checkpoint of the log as it stands.

    Raises:
        Conflict: the log does not continue what it has published.
        Unavailable: the store or the keys can't be read or written.
    """
    path = site.folder / "checkpoint"
    with _one_at_a_time:
        stored = read_or_none(path)
        published = _opened(site, stored.decode()) if stored else None
        check_restored(published, site.ledger)
        size = site.ledger.size()
        if stored and published and published.size == size:
            return stored.decode()
        made = Checkpoint(log_origin(site.keys), size, site.ledger.root(size))
        note = sign_checkpoint(made, site.keys.signer("log"))
        write_whole(path, note.encode())
        return note


def _opened(site: Site, note: str) -> Checkpoint:
    key = NoteKey.of_pem(log_origin(site.keys), site.keys.signer("log").public_pem)
    try:
        return open_checkpoint(note, key)
    except Fault as fault:
        raise Conflict(f"the checkpoint in the store is not of this log's key: {fault.detail}; restore both") from fault
