"""Files that a record names are kept, whatever the kind of the record; others are removed."""

from __future__ import annotations

from types import SimpleNamespace

from auditsvc.records import FileEntry, digest_of
from auditsvc.services.unused_blobs import remove_unused_blobs
from tests.contracts.sample import WEIGHTS, a_candidate, a_parent
from tests.fakes import MemoryBlobs, MemoryLedger


def test_what_no_record_names_is_removed():
    ledger, blobs = MemoryLedger(), MemoryBlobs()
    kept = [blobs.put(data) for data in (WEIGHTS, b"of the parent")]
    other = FileEntry(name="NOTICE", size=13, digest=kept[1])
    ledger.append(a_candidate(), a_parent().model_copy(update={"files": (other,)}), actor="ann")
    unused = blobs.put(b"an upload")
    assert remove_unused_blobs(SimpleNamespace(ledger=ledger, blobs=blobs), 0) == (1, 9)
    assert ([blobs.has(one) for one in kept], blobs.has(unused)) == ([True, True], False)
    assert kept[0] == digest_of(WEIGHTS)
