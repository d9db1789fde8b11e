"""Checkpoints, witnesses, tiles and the restore guard."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.adapters.file_keys import FileKeys
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.provenance import SigningServices, TrustRoot, sign_release, verify
from auditsvc.provenance.formats import merkle_log
from auditsvc.provenance.formats.merkle_log import Tile, entry_tile, hash_tile
from auditsvc.provenance.formats.signed_note import (
    Checkpoint,
    NoteKey,
    count_witnesses,
    open_checkpoint,
    sign_checkpoint,
)
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.signer.checkpoints import Witness, check_restored, witness_request
from auditsvc.provenance.trust.trust_root import log_origin
from tests.fakes.log import MemoryLog
from tests.provenance.sample import AT, FILES, sealing, write
from tests.provenance.tiles import nodes_from_tiles, tiles_of


def log_of(size: int) -> MemoryLog:
    return MemoryLog([b"leaf %d" % index for index in range(size)])


class House:
    """A log with its keys, and a witness of it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.keys, self.log = FileKeys(folder / "keys"), log_of(size)
        self.origin = log_origin(self.keys)
        self.key = NoteKey.of_pem(self.origin, self.keys.signer("log").public_pem)
        signer = FileKeys(folder / "witness").signer("log")
        self.witness = Witness("witness.example", signer, {self.origin: self.key}, folder / "seen.json")

    def note(self, size: int) -> str:
        return sign_checkpoint(Checkpoint(self.origin, size, self.log.root(size)), self.keys.signer("log"))

    def request(self, old: int, new: int) -> bytes:
        return witness_request(old, self.log.consistency(old, new), self.note(new))

    def cosign(self, envelope: str) -> str:
        now = open_checkpoint(envelope, self.key)
        old = self.witness.seen(self.origin).size
        request = witness_request(old, self.log.consistency(old, now.size), envelope)
        return envelope + self.witness.add_checkpoint(request, AT)


def test_a_witness_follows_a_growing_log(tmp_path: Path) -> None:
    house_ = House(tmp_path, 20)
    for old, new in ((0, 5), (5, 5), (5, 12), (12, 20)):
        line = house_.witness.add_checkpoint(house_.request(old, new), AT)
        assert count_witnesses(house_.note(new) + line, [house_.witness.key.vkey]) == 1
        assert count_witnesses(house_.note(old or 1) + line, [house_.witness.key.vkey]) == (1 if old == new else 0)


def code_of(caught: pytest.ExceptionInfo[Fault]) -> str:
    return caught.value.step_code


def test_a_witness_signs_no_second_history(tmp_path: Path) -> None:
    house_ = House(tmp_path, 20)
    house_.witness.add_checkpoint(house_.request(0, 12), AT)
    with pytest.raises(Fault) as caught:
        house_.witness.add_checkpoint(house_.request(0, 20), AT)
    assert code_of(caught) == "LOG_ROLLBACK"
    house_.log = MemoryLog([b"other %d" % index for index in range(20)])
    for new, code in ((12, "LOG_FORK"), (20, "LOG_ROLLBACK")):
        with pytest.raises(Fault) as caught:
            house_.witness.add_checkpoint(house_.request(12, new), AT)
        assert code_of(caught) == code
    assert house_.witness.seen(house_.origin).root == log_of(12).root(12)


@pytest.mark.parametrize("request_", [b"", b"old x\n\n", b"\xff", b"old 0\n!!\n\nlog.example\n1\n", b"new 0\n\nx\n1\n"])
def test_a_witness_refuses_rubbish(tmp_path: Path, request_: bytes) -> None:
    with pytest.raises(Fault) as caught:
        House(tmp_path, 3).witness.add_checkpoint(request_, AT)
    assert code_of(caught) == "LOG_CHECKPOINT"


def test_a_release_that_a_witness_saw_meets_the_quorum(tmp_path: Path) -> None:
    write(tmp_path / "release", FILES)
    house_ = House(tmp_path, 3)
    sign_release(tmp_path, sealing(), keys=house_.keys, log=house_.log, at=AT, services=SigningServices(house_.cosign))
    trust = TrustRoot.of_keys(house_.keys)
    log = trust.log.model_copy(update={"quorum": 1, "witnesses": (house_.witness.key.vkey,)})
    found = verify(tmp_path / "release", tmp_path / "attest", trust=trust.model_copy(update={"log": log}), at=AT)
    assert (found.verdict, found.reasons) == ("VALID", ())


def test_a_restored_log_is_not_signed_for(tmp_path: Path) -> None:
    log = log_of(10)
    check_restored(None, log)
    check_restored(Checkpoint("log", 10, log.root(10)), log)
    check_restored(Checkpoint("log", 7, log.root(7)), log)
    with pytest.raises(Conflict, match="LOG_FORK_GUARD"):
        check_restored(Checkpoint("log", 12, log_of(12).root(12)), log)
    with pytest.raises(Conflict, match="LOG_FORK_GUARD"):
        check_restored(Checkpoint("log", 7, b"\0" * 32), log)


def test_the_paths_of_tiles_are_those_of_the_specification() -> None:
    assert Tile(0, 0).path == "tile/0/000"
    assert Tile(0, 1234067, 8).path == "tile/0/x001/x234/067.p/8"
    assert Tile(None, 1000).path == "tile/entries/x001/000"


@given(st.none() | st.integers(0, 63), st.integers(0, 10**12), st.integers(1, 256))
def test_the_path_of_a_tile_reads_back(level: int | None, index: int, width: int) -> None:
    assert Tile.parse(Tile(level, index, width).path) == Tile(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0/0",
        "tile/64/000",
        "tile/0/000.p/0",
        "tile/0/000.p/257",
        "tile/0/000.p/256",
        "tile/0/x000/001",
        "../etc",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        Tile.parse(path)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 700, 66000])
def test_a_client_makes_the_same_proofs_from_tiles(size: int) -> None:
    log = log_of(size)
    tiles = {tile: hash_tile(tile, size, log.node) for tile in tiles_of(size) if tile.level is not None}
    nodes = nodes_from_tiles(tiles.__getitem__, size)
    assert merkle_log.root(size, nodes) == log.root(size)
    for index in {0, size // 3, size - 1}:
        assert merkle_log.inclusion(index, size, nodes) == log.inclusion(index, size)
        assert merkle_log.consistency(index, size, nodes) == log.consistency(index, size)


def test_entry_tiles_hold_the_leaves() -> None:
    log = log_of(300)
    data = entry_tile(Tile(None, 1, 44), 300, log.leaves.__getitem__)
    assert data[:2] == (8).to_bytes(2, "big")
    assert data[2:10] == b"leaf 256"
    with pytest.raises(NotFound):
        entry_tile(Tile(None, 1, 45), 300, log.leaves.__getitem__)
    with pytest.raises(InvalidInput):
        entry_tile(Tile(None, 0, 1), 1, lambda _: b"x" * 65536)


def test_a_checkpoint_is_opened_by_its_own_key_only(tmp_path: Path) -> None:
    house_ = House(tmp_path, 3)
    assert open_checkpoint(house_.note(3), NoteKey.parse(house_.key.vkey)).root == house_.log.root(3)
    other = NoteKey.of_pem(house_.origin, FileKeys(tmp_path / "b").signer("log").public_pem)
    with pytest.raises(Fault):
        open_checkpoint(house_.note(3), other)
