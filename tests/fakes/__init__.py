"""Working fakes, one for each port.  ``tests/contracts`` holds them to what the adapters do."""

from tests.fakes.blobs import MemoryBlobs
from tests.fakes.clock import NOON, FixedClock
from tests.fakes.keys import MemoryKeys, MemorySigner
from tests.fakes.ledger import MemoryLedger
from tests.fakes.log import MemoryLog
from tests.fakes.progress import QuietProgress
from tests.fakes.registry import MemoryRegistry

__all__ = [
    "NOON",
    "FixedClock",
    "MemoryBlobs",
    "MemoryKeys",
    "MemoryLedger",
    "MemoryLog",
    "MemoryRegistry",
    "MemorySigner",
    "QuietProgress",
]
