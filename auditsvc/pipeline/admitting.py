"""Admitting candidates that were pruned elsewhere: files that were sent, or a version that somebody registered.

A registered version keeps its number: the candidate's digest is written on it first, and submitting finds the
version that carries the digest.  A version of another model's name is copied under the parent's.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditsvc.errors import Conflict, NotFound
from auditsvc.measuring import Dataset
from auditsvc.pipeline.making import admit
from auditsvc.pipeline.parents import parent_folder
from auditsvc.ports import Ports
from auditsvc.records import AdmitOrder, Candidate, Parent

_VERSION = re.compile(r"models:/([^/@]+)/([1-9][0-9]*)")


def admitted(order: AdmitOrder, probe: Dataset, ports: Ports) -> Candidate:
    """The candidate of this order, loaded again in a clean process on images of ``probe``.

    Raises:
        NotFound: no such parent, file or version.
        Refused: files that are no model of the parent's kind, or that do not load alike twice.
        Conflict: what is asked for is the parent itself.
    """
    parent = ports.ledger.get(Parent, order.parent)
    with ports.progress.step("fetch, look, load again"), _folder_of(order, ports) as folder:
        candidate = admit(folder, parent, probe, ports)
    if {file.digest for file in candidate.files} <= {file.digest for file in parent.files}:
        raise Conflict("these are the parent's own files; nothing was pruned")
    version = _VERSION.fullmatch(order.reference or "")
    if version is not None and version[1] == parent.model:
        ports.registry.tag(version[1], version[2], {"auditsvc.digest": candidate.digest})
    return candidate


@contextmanager
def _folder_of(order: AdmitOrder, ports: Ports) -> Iterator[Path]:
    if order.reference is not None:
        with parent_folder(order.reference, None, ports) as folder:
            yield folder
        return
    missing = [file.name for file in order.files if not ports.blobs.has(file.digest)]
    if missing:
        raise NotFound(f"not sent here: {', '.join(missing)}; send them to /v1/uploads first")
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "model"
        ports.blobs.checkout(order.files, folder)
        yield folder
