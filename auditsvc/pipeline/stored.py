"""Model files of a record, read back from the blobs and checked against their digests."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from auditsvc.errors import Refused
from auditsvc.models import CARD, WEIGHTS, ArchitectureCard, Model, assemble, read_card, read_weights
from auditsvc.ports import Ports
from auditsvc.records import FileEntry


def load_stored(files: Iterable[FileEntry], ports: Ports) -> Model:
    """The model of a record's files.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    tensors, card = stored_tensors(files, ports)
    return assemble(tensors, card)


def stored_tensors(files: Iterable[FileEntry], ports: Ports) -> tuple[dict[str, Tensor], ArchitectureCard]:
    """The tensors as they are saved, which may be halves or integers, and their card.

    Raises:
        Refused: a record that lists no model, or files that are none.
    """
    by_name = {file.name: file.digest for file in files}
    missing = {WEIGHTS, CARD} - set(by_name)
    if missing:
        raise Refused(f"the record lists no {' and no '.join(sorted(missing))}")
    return read_weights(ports.blobs.read(by_name[WEIGHTS])), read_card(ports.blobs.read(by_name[CARD]))
