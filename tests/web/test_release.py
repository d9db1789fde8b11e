"""A release from consent to recall, over HTTP alone."""

from __future__ import annotations

import io
import tarfile

import pytest
from starlette.testclient import TestClient

from auditsvc.provenance import ReleaseInputs
from auditsvc.records import Release, Rollback, Submission
from auditsvc.services.decisions import report_folder
from auditsvc.services.registry import ALIAS, clear_alias
from auditsvc.web.state import ProjectState
from tests.fakes import MemoryRegistry
from tests.provenance.sample import FILES, sealing, terms_of
from tests.web.conftest import Clients

TAR = {"content-type": "application/x-tar"}
FILE = {"content-type": "application/octet-stream"}


def decided_elsewhere(site: ProjectState) -> ReleaseInputs:
    """A version that was submitted and approved by the gate under terms, and waits for people."""
    about = sealing()
    registry = site.ctx.registry
    assert isinstance(registry, MemoryRegistry)
    registry.hold(about.candidate, about.version, FILES)
    for data in FILES.values():
        site.ctx.blobs.put(data)
    submission = Submission(
        candidate=about.candidate.digest,
        model=about.model,
        version=about.version,
        submitter=about.submitter,
        at=site.clock.now(),
    )
    site.ledger.append(about.parent, about.candidate, submission, about.policy, *about.evidence, actor=about.submitter)
    site.ledger.append(*terms_of(about.policy), actor="tom")
    site.ledger.append(about.decision, actor="auditsvc")
    return about


@pytest.fixture
def released(clients: Clients, site: ProjectState) -> Release:
    """What was decided elsewhere, approved by two people and released over HTTP."""
    about = decided_elsewhere(site)
    for name in ("gus", "hal"):
        path = f"/v1/decisions/{about.decision.digest}/approvals"
        assert clients("approver", name).post(path, json={}).status_code == 201
    got = clients("auditor").post(f"/v1/decisions/{about.decision.digest}/release")
    assert got.status_code == 201, got.text
    return Release.parse(got.content)


def _tar(reader: TestClient, released: Release) -> bytes:
    return reader.get(f"/v1/releases/{released.digest}/bundle").content


def test_the_bundle_verifies_wherever_it_goes(reader: TestClient, released: Release) -> None:
    bundle = _tar(reader, released)
    assert bundle == _tar(reader, released)
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        names = archive.getnames()
    assert {f"release/{name}" for name in FILES} <= set(names)
    found = reader.post("/v1/verify", content=bundle, headers=TAR).json()
    assert (found["verdict"], found["verification"]["verdict"]) == ("VALID", "VALID")


def test_one_changed_byte_is_invalid(reader: TestClient, released: Release) -> None:
    bundle = _tar(reader, released)
    changed = bundle.replace(b'"tiny"', b'"tinz"', 1)
    found = reader.post("/v1/verify", content=changed, headers=TAR).json()
    assert found["verdict"] == "INVALID"


def test_a_single_file_tells_its_release(reader: TestClient, released: Release) -> None:
    found = reader.post("/v1/verify", content=FILES["weights.safetensors"], headers=FILE).json()
    assert (found["verdict"], found["release"]) == ("VALID", released.digest)
    assert reader.post("/v1/verify", content=b"something else", headers=FILE).json()["verdict"] == "UNKNOWN"


def test_what_was_recalled_says_so(clients: Clients, reader: TestClient, released: Release) -> None:
    bundle = _tar(reader, released)
    path = f"/v1/releases/{released.digest}/revocations"
    assert clients("approver", "gus").post(path, json={"reason": "fails at night"}).status_code == 202
    assert clients("approver", "hal").post(path, json={}).status_code == 201
    for content, headers in ((bundle, TAR), (FILES["config.json"], FILE)):
        assert reader.post("/v1/verify", content=content, headers=headers).json()["verdict"] == "REVOKED"


def test_the_alias_goes_back_when_two_people_say_so(clients: Clients, site: ProjectState, released: Release) -> None:
    path = f"/v1/releases/{released.digest}/rollbacks"
    gus, hal = clients("approver", "gus"), clients("approver", "hal")
    assert gus.post(path, json={}).json()["code"] == "invalid-input"
    asked = gus.post(path, json={"reason": "the next one fails"})
    assert (asked.status_code, asked.json()["requested_by"]) == (202, "gus")
    assert gus.post(path, json={}).json()["code"] == "conflict"
    refused = hal.post(path, json={})
    assert refused.json()["code"] == "conflict" and "carries the alias approved already" in refused.json()["detail"]
    clear_alias(site.ctx, released.model, released.version, released.digest)
    done = hal.post(path, json={})
    made = Rollback.parse(done.content)
    assert (done.status_code, made.requested_by, made.confirmed_by) == (201, "gus", "hal")
    assert site.ctx.registry.aliased(released.model, ALIAS) == released.version
    assert gus.get(f"/v1/rollbacks/{made.digest}").content == made.canonical()


def test_the_page_of_a_release_has_both_ways_back(clients: Clients, site: ProjectState, released: Release) -> None:
    decision = f"/decisions/{released.decision}"
    own = {"sec-fetch-site": "same-origin"}
    gus, hal = (clients("approver", name) for name in ("gus", "hal"))
    page = gus.get(decision).text
    assert "Request revocation as gus" in page and "Request rollback" not in page
    assert "Request revocation" not in clients("auditor", "eve").get(decision).text
    clear_alias(site.ctx, released.model, released.version, released.digest)
    assert "The registry alias moves from no version to this version" in gus.get(decision).text
    for name in ("rollback", "revocation"):
        path = f"/releases/{released.digest}/{name}s"
        got = gus.post(path, data={"reason": "fails at night"}, headers=own)
        assert (got.status_code, got.headers["location"]) == (303, decision)
        assert (
            f"{name.capitalize()} requested by gus; another person must confirm it"
            in clients("reader", "rae").get(decision).text
        )
        assert hal.post(path, data={"reason": ""}, headers=own).status_code == 303
    assert site.ledger.find(Rollback, released.digest)[0].confirmed_by == "hal"
    assert "Revoked: fails at night" in gus.get(decision).text


def test_attestations_are_read_by_name_and_nothing_else_is(reader: TestClient, released: Release) -> None:
    for file in released.attestations:
        got = reader.get(f"/v1/releases/{released.digest}/attestations/{file.name}")
        assert len(got.content) == file.size
    for name in ("../release/config.json", "..%2f..%2f..%2faccess.db", "none.json"):
        assert reader.get(f"/v1/releases/{released.digest}/attestations/{name}").status_code == 404


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "elsewhere/x", "release/../../x"])
def test_a_tar_that_leaves_its_folder_is_refused(reader: TestClient, name: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    got = reader.post("/v1/verify", content=made.getvalue(), headers=TAR)
    assert (got.status_code, got.json()["code"]) == (422, "invalid-input")


def test_a_tar_with_a_link_is_refused(reader: TestClient) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("release/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert reader.post("/v1/verify", content=made.getvalue(), headers=TAR).status_code == 422


def test_a_report_may_show_itself_and_do_nothing_else(
    reader: TestClient, site: ProjectState, released: Release
) -> None:
    path = f"/v1/releases/{released.digest}/report"
    assert reader.get(path).status_code == 404
    folder = report_folder(site.folder, released.decision, released.model, released.version)
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>report</h1>")
    got = reader.get(path)
    assert got.text == "<h1>report</h1>"
    assert "sandbox" in got.headers["content-security-policy"]


def test_provenance_says_whether_what_was_released_verifies(reader: TestClient, released: Release) -> None:
    for digest in (released.digest, released.candidate, released.files[0].digest):
        found = reader.get(f"/v1/provenance/{digest}").json()
        assert found["verdict"] == "VALID"
        assert len(found["verification"]["steps"]) > 20
    policy = reader.get("/v1/policies").json()["items"][0]["digest"]
    assert reader.get(f"/v1/provenance/{policy}").json().get("verdict") is None
