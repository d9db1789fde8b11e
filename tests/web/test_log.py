"""The log over HTTP: what a stranger needs to check it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

from starlette.testclient import TestClient

from auditsvc.provenance import TrustRoot
from auditsvc.provenance.formats import merkle_log
from auditsvc.provenance.formats.merkle_log import Tile
from auditsvc.provenance.formats.signed_note import NoteKey, open_checkpoint
from auditsvc.provenance.trust.trust_root import log_origin
from auditsvc.records import Approval, canonical_json
from auditsvc.web.state import ProjectState
from tests.fakes import MemoryLedger
from tests.provenance.tiles import nodes_from_tiles
from tests.web import sample

U = base64.b64decode


def _key(site: ProjectState) -> NoteKey:
    return NoteKey.of_pem(log_origin(site.keys), site.keys.signer("log").public_pem)


def test_the_checkpoint_is_signed_and_says_what_the_log_says(reader: TestClient, site: ProjectState) -> None:
    found = open_checkpoint(reader.get("/v1/log/checkpoint").text, _key(site))
    assert (found.size, found.root) == (site.ledger.size(), site.ledger.root(site.ledger.size()))


def test_a_log_that_lost_what_it_published_signs_nothing(reader: TestClient, site: ProjectState) -> None:
    assert reader.get("/v1/log/checkpoint").status_code == 200
    old_backup = MemoryLedger()
    site.ctx = replace(site.ctx, ledger=old_backup, log=old_backup)
    got = reader.get("/v1/log/checkpoint")
    assert (got.status_code, got.json()["code"]) == (409, "conflict")
    assert "LOG_FORK_GUARD" in got.json()["detail"]


def test_inclusion_of_a_record_can_be_checked(reader: TestClient, site: ProjectState) -> None:
    for approval in site.ledger.all(Approval):
        found = reader.get("/v1/log/inclusion", params={"object": approval.digest}).json()
        path = [U(node) for node in found["path"]]
        assert merkle_log.includes(U(found["leaf"]), found["index"], found["size"], path, U(found["root"]))
        event = reader.get(f"/v1/log/entries/{found['index']}").json()
        assert (event["object"], event["actor"]) == (approval.digest, "auditsvc")


def test_every_size_is_shown_to_continue_every_smaller_one(reader: TestClient, site: ProjectState) -> None:
    size = site.ledger.size()
    for old in range(1, size + 1):
        found = reader.get(f"/v1/log/consistency?old={old}").json()
        path = [U(node) for node in found["path"]]
        assert merkle_log.continues(old, size, U(found["old_root"]), U(found["new_root"]), path)
    assert reader.get(f"/v1/log/consistency?old={size + 1}").status_code == 404


def test_a_client_makes_the_root_from_tiles_alone(reader: TestClient, site: ProjectState) -> None:
    for number in range(600):
        site.ledger.append_leaf(canonical_json({"number": number}))
    size = site.ledger.size()

    def read(tile: Tile) -> bytes:
        got = reader.get(f"/v1/log/{tile.path}")
        assert got.status_code == 200
        return got.content

    assert merkle_log.root(size, nodes_from_tiles(read, size)) == site.ledger.root(size)
    entries = read(Tile(None, 1))
    length = int.from_bytes(entries[:2], "big")
    assert entries[2 : 2 + length] == site.ledger.leaf(256)
    assert reader.get("/v1/log/tile/0/999").status_code == 404
    assert reader.get("/v1/log/tile/0/..%2f..%2fkeys").json()["code"] == "invalid-input"


def test_questions_about_the_log_that_make_no_sense_are_refused(reader: TestClient) -> None:
    none = reader.get("/v1/log/inclusion")
    both = reader.get("/v1/log/inclusion", params={"index": 0, "object": sample.PARENT.digest})
    assert (none.status_code, both.status_code) == (422, 422)
    assert reader.get("/v1/log/inclusion?index=9999").status_code == 404
    assert reader.get("/v1/log/inclusion?index=0&size=9999").status_code == 404
    assert reader.get("/v1/log/entries/9999").status_code == 404


def test_the_keys_make_the_trust_policy(reader: TestClient, site: ProjectState, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_bytes(reader.get("/v1/keys/trust-policy").content)
    assert TrustRoot.load(tmp_path / "trust.json") == TrustRoot.of_keys(site.keys)
    shown = {item["role"]: item["pem"] for item in reader.get("/v1/keys").json()}
    assert shown["release"].encode() == site.keys.signer("release").public_pem
    assert "PRIVATE" not in json.dumps(shown)


def test_verifiers_read_trust_and_recalls_over_http(reader: TestClient, site: ProjectState, tmp_path: Path) -> None:
    wanted = ["metadata/1.root.json", "metadata/timestamp.json", "metadata/1.snapshot.json", "metadata/1.targets.json"]
    assert reader.get("/v1/trust/metadata/1.root.json").status_code == 404
    assert reader.get("/v1/trust/metadata/timestamp.json").status_code == 200
    targets = reader.get("/v1/trust/metadata/1.targets.json").json()["signed"]["targets"]
    wanted += [f"targets/{info['hashes']['sha256']}.{name}" for name, info in targets.items()]
    for path in wanted:
        place = tmp_path / "copy" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(reader.get(f"/v1/trust/{path}").content)
    pinned = site.keys.signer("release").public_pem
    found = TrustRoot.from_repository(tmp_path / "copy", pinned, site.clock.now())
    assert (found.keys, found.problems) == (TrustRoot.of_keys(site.keys).keys, ())
    assert reader.get("/v1/trust/metadata/../../keys/release.key").status_code in (404, 422)
