"""Candidates that were pruned elsewhere: as files that were sent, or as a version that somebody registered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from auditsvc.errors import Conflict, Forbidden, NotFound, Refused
from auditsvc.records import AdmitRequest, Candidate, Decision, FileEntry, Parent, ParentRequest, Submission, digest_of
from auditsvc.services.job_handlers import JobContext, run_job
from auditsvc.services.model_store import load_stored
from tests.fakes.jobs import MemoryRunner
from tests.roads import small
from tests.services.line import CARD, FACTS, policy, ports_in

JOB = "000000000001-0000000000000000"


@pytest.fixture
def room(line, folders):
    ctx, parent, candidate, _ = line
    made = JobContext(ctx, folders["audited"].parent)
    return made, parent, candidate


@pytest.fixture
def files(room, tmp_path: Path) -> tuple[FileEntry, ...]:
    """The line's candidate under other bytes: its card is written with other white space."""
    made, _, candidate = room
    found = []
    for file in candidate.files:
        data = made.ctx.blobs.read(file.digest)
        data = data + b"\n" if file.name == "architecture.json" else data
        found.append(FileEntry(name=file.name, size=len(data), digest=made.ctx.blobs.put(data)))
    return tuple(found)


def _done(made: JobContext, order: AdmitRequest, by: str = "zoe") -> dict[str, object]:
    return run_job(JOB, order, by, made, MemoryRunner(made))


def test_files_that_were_sent_become_a_candidate_under_the_sender_s_name(room, files) -> None:
    made, parent, _ = room
    result = _done(made, AdmitRequest(parent=parent.digest, files=files, probe="calibration"))
    candidate = made.ctx.ledger.get(Candidate, result["candidate"])
    assert (candidate.parent, candidate.recipe, candidate.mark) == (parent.digest, None, None)
    (submission,) = made.ctx.ledger.find(Submission, candidate.digest)
    assert (submission.submitter, submission.version) == ("zoe", result["version"])


def test_an_audit_follows_if_it_is_wanted(room, files) -> None:
    made, parent, _ = room
    made.ctx.ledger.append(policy(), actor="test")
    order = AdmitRequest(parent=parent.digest, files=files, probe="calibration", policy=policy().digest, data="audited")
    result = _done(made, order)
    assert made.ctx.ledger.get(Decision, result["decision"]).candidate == result["candidate"]


def test_a_version_that_somebody_registered_keeps_its_number(room, files) -> None:
    made, parent, _ = room
    registry = made.ctx.registry
    registry.tags[FACTS["model"], "7"] = {"by": "somebody", "auditsvc.digest": ""}
    registry.files[FACTS["model"], "7"] = {file.name: made.ctx.blobs.read(file.digest) for file in files}
    order = AdmitRequest(parent=parent.digest, reference=f"models:/{FACTS['model']}/7", probe="calibration")
    assert _done(made, order)["version"] == "7"
    assert _done(made, order)["version"] == "7"  # run again, the same


def test_what_is_no_candidate_of_the_parent_is_refused(room, files) -> None:
    made, parent, _ = room
    with pytest.raises(Conflict, match="nothing was pruned"):
        _done(made, AdmitRequest(parent=parent.digest, files=parent.files, probe="calibration"))
    absent = (files[0].model_copy(update={"digest": digest_of(b"never sent")}),)
    with pytest.raises(NotFound, match="not sent here"):
        _done(made, AdmitRequest(parent=parent.digest, files=absent, probe="calibration"))
    changed = CARD.model_copy(update={"classes": ("a", "b")})
    data = changed.model_dump_json().encode()
    other = FileEntry(name="architecture.json", size=len(data), digest=made.ctx.blobs.put(data))
    swapped = tuple(other if file.name == other.name else file for file in files)
    with pytest.raises(Refused):
        _done(made, AdmitRequest(parent=parent.digest, files=swapped, probe="calibration"))


def test_parent_and_candidate_come_with_a_description_of_what_their_files_do_not_say(tmp_path: Path) -> None:
    """ONNX files whose images are normalised outside of the graph."""
    made = JobContext(ports_in(tmp_path / "store"), tmp_path)
    small.image_folder(tmp_path / "photos", small.pictures(8, 1))
    network = small.network().eval()
    sent = []
    for name, share in (("dense.onnx", 0.0), ("small.onnx", 0.5)):
        small.save_onnx(small.pruned(network, share), tmp_path / name)
        sent.append((made.ctx.blobs.put_file(tmp_path / name),))
    said = {"mean": list(small.MEAN), "std": list(small.STD)}
    facts = {"model": "bars", "source": "a test", "licence": "CC0-1.0", "probe": "photos"}
    order = {**facts, "files": sent[0], "describe": {"preprocessing": said}}
    result = _done(made, ParentRequest.model_validate(order))
    parent = made.ctx.ledger.get(Parent, str(result["parent"]))
    other = {"preprocessing": {**said, "channels": "bgr"}}
    order = {"parent": parent.digest, "files": sent[1], "probe": "photos", "describe": other}
    candidate = made.ctx.ledger.get(Candidate, str(_done(made, AdmitRequest.model_validate(order))["candidate"]))
    cards = [load_stored(made.ctx, item.files).card for item in (parent, candidate)]
    assert [one.preprocessing.channels for one in cards] == ["rgb", "bgr"]
    assert all(one.preprocessing.mean == small.MEAN and one.classes == small.CLASSES for one in cards)
    own = {"architecture": "os:system", "input": {"channels": 3, "height": 24, "width": 24}}
    weights = (made.ctx.blobs.put_file(_saved(network, tmp_path / "dense.pt")),)
    with pytest.raises(Forbidden, match="os:system"):
        _done(made, ParentRequest.model_validate({**facts, "files": weights, "describe": own}))


def _saved(network: torch.nn.Module, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"files": [{"name": "x", "size": 1, "digest": "sha256:" + "0" * 64}], "reference": "models:/a/1"},
        {"reference": "file:///etc/passwd"},
        {"reference": "models:/a/1", "policy": "standard"},
        {"reference": "models:/a/1", "probe": "../x"},
    ],
)
def test_an_order_that_can_not_be_meant_is_refused(given) -> None:
    with pytest.raises(ValidationError):
        AdmitRequest.model_validate({"parent": "sha256:" + "0" * 64, "probe": "calibration", **given})
