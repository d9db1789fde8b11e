"""Fuzzing: every parser of foreign bytes gives a value or its own kind of error, whatever it is fed.

``TARGETS`` are the parsers with a good example of each.  The hypothesis test draws from them; ``fuzz`` mutates the
examples for a given time and counts.  With atheris installed, ``python -m tests.provenance.fuzzing`` fuzzes them
guided by coverage: ``python -m tests.provenance.fuzzing -runs=100000``.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from auditsvc.adapters.external_keys import Place
from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.dsse import Bundle, check_p256
from auditsvc.provenance.formats.manifest import OMS_TYPE, resources_of
from auditsvc.provenance.formats.merkle_log import Tile
from auditsvc.provenance.formats.predicates import VSA_TYPE, Statement, Summary
from auditsvc.provenance.formats.signed_note import Checkpoint, Note, NoteKey
from auditsvc.provenance.formats.strict_json import parse_json
from auditsvc.provenance.signer.checkpoints import read_request, witness_request
from auditsvc.provenance.trust.trust_root import RevocationList, TrustRoot
from auditsvc.provenance.trust.tuf_repository import ROLES, Metadata, Threshold, TufRoles, publish
from auditsvc.records import Decision
from tests.provenance.forge import Forge
from tests.provenance.sample import AT

Parser = Callable[[bytes], object]


def _text(parse: Callable[[str], object]) -> Parser:
    return lambda data: parse(data.decode("utf-8", "replace"))


def _oms(payload: bytes) -> object:
    statement = Statement.parse(payload, OMS_TYPE)
    return resources_of(statement.subject, statement.predicate)


def _metadata(data: bytes) -> object:
    root = Metadata.parse(data, "root")
    for role in ROLES:
        Threshold.of(root, role).check(root)
    return root


@cache
def targets() -> dict[str, tuple[Parser, bytes]]:
    """Every parser by name, with a good example of its input."""
    with tempfile.TemporaryDirectory() as folder:
        forge = Forge(Path(folder))
        publish(forge.folder / "tuf", {"x": b""}, TufRoles.all_by(forge.keys.signer("release")), AT)
        root = (forge.folder / "tuf" / "metadata" / "1.root.json").read_bytes()
        bundle = forge.bundle("vsa")
    note = bundle.entries[0].checkpoint
    pem = forge.keys.signer("release").public_pem
    log = forge.trust.log
    return {
        "json": (parse_json, bundle.to_json()),
        "bundle": (Bundle.parse, bundle.to_json()),
        "summary": (lambda data: Summary.parse(Statement.parse(data, VSA_TYPE).predicate), bundle.payload),
        "manifest": (_oms, forge_payload(forge)),
        "note": (_text(Note.parse), note.encode()),
        "checkpoint": (_text(Checkpoint.parse), note.partition("\n\n")[0].encode() + b"\n"),
        "note key": (_text(NoteKey.parse), log.vkey.encode() if log else b""),
        "trust policy": (TrustRoot.from_policy, forge.trust.to_json()),
        "release key": (TrustRoot.from_pem, pem),
        "signature": (lambda data: check_p256(pem, data, b""), bundle.signature),
        "recalls": (RevocationList.parse, RevocationList(issued=AT).to_json()),
        "metadata": (_metadata, root),
        "tile": (_text(Tile.parse), b"tile/0/x001/234.p/7"),
        "witness request": (read_request, witness_request(3, (b"\0" * 32, b"\1" * 32), note)),
        "pkcs11 uri": (
            _text(Place.parse),
            b"pkcs11:token=a%20b;object=release;id=%01?module-path=/x.so&pin-source=file:/p",
        ),
        "record": (Decision.parse, forge.sealing.decision.canonical()),
    }


def forge_payload(forge: Forge) -> bytes:
    """The OMS statement of a release."""
    from auditsvc.provenance.formats.predicates import oms_statement

    return oms_statement(forge.sealing.candidate)


def feed(name: str, data: bytes) -> bool:
    """Whether the parser took the input; anything but its own kind of error comes through."""
    try:
        targets()[name][0](data)
    except InvalidInput:
        return False
    return True


_BITS = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\\u0000",
    b"\n",
    b"\xff",
    b"null",
    b"-1",
    b"1e9",
    b"true",
    b"\0",
    b"==",
)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A few random changes: flipped bits, cut, repeated and swapped parts, bits of syntax."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(made))
        to = min(len(made), at + chance.randint(0, 40))
        kind = chance.randrange(5)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del made[at:to]
        elif kind == 2:
            made[at:at] = made[at:to] * chance.randint(1, 3)
        elif kind == 3:
            made[at:to] = chance.choice(_BITS)
        else:
            made[at:at] = chance.choice(_BITS)
    return bytes(made)


def fuzz(seconds: float, seed: int = 0) -> int:
    """Feed mutated examples to all parsers for so long; how many inputs were tried."""
    chance, tried = random.Random(seed), 0
    end = time.monotonic() + seconds
    names = sorted(targets())
    while time.monotonic() < end:
        for name in names:
            feed(name, mutate(targets()[name][1], chance))
            tried += 1
    return tried


def main() -> None:
    """Fuzz all parsers guided by coverage; needs atheris."""
    import atheris

    names = sorted(targets())

    def one(data: bytes) -> None:
        if data:
            feed(names[data[0] % len(names)], data[1:])

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as corpus:
        for at, name in enumerate(names):
            (Path(corpus) / str(at)).write_bytes(bytes([at]) + targets()[name][1])
        atheris.Setup([*sys.argv, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
