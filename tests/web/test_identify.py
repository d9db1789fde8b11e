"""Found files and answers over HTTP, for auditors only."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from auditsvc.datasets.readers import DatasetReaders
from auditsvc.models import CARD, WEIGHTS, load_model, model_files
from auditsvc.records import Candidate, FileEntry, Parent, Submission
from auditsvc.services.watermarking import WatermarkOptions, embed_watermark
from auditsvc.web.state import ProjectState
from tests.services.line import data_in, parent_in
from tests.web.conftest import Clients

FILE = {"content-type": "application/octet-stream"}
SHEET = {"content-type": "text/csv"}


@pytest.fixture
def copy_of_anna(site: ProjectState, tmp_path: Path) -> Candidate:
    """A marked copy for one recipient, submitted."""
    model = load_model(parent_in(tmp_path / "parent"))
    parent = Parent(
        model="bright", task="classification", architecture="small_cnn", source="a test", licence="MIT", files=()
    )
    calibration = DatasetReaders().open(data_in(tmp_path / "calibration", 60))
    weights, mark = embed_watermark(site.ctx, parent, model, calibration, WatermarkOptions("anna"))
    files = tuple(
        FileEntry(name=name, size=len(data), digest=site.ctx.blobs.put(data))
        for name, data in model_files(weights, model.card).items()
    )
    candidate = Candidate(
        model="bright", task="classification", architecture="small_cnn", files=files, parent=parent.digest, mark=mark
    )
    submission = Submission(
        candidate=candidate.digest, model="bright", version="1", submitter="sue", at=site.clock.now()
    )
    site.ledger.append(parent, candidate, submission, actor="sue")
    return candidate


def weights_of(candidate: Candidate, site: ProjectState) -> bytes:
    return site.ctx.blobs.read(next(file.digest for file in candidate.files if file.name == WEIGHTS))


def test_a_found_file_is_traced_to_its_recipient(clients: Clients, site: ProjectState, copy_of_anna: Candidate) -> None:
    got = clients("auditor").post("/v1/identify", content=weights_of(copy_of_anna, site), headers=FILE)
    assert got.status_code == 200, got.text
    found = got.json()
    assert (found["verdict"], found["tried"]) == ("MATCH", 1)
    (trace,) = found["matches"]
    assert (trace["model"], trace["version"], trace["recipient"]) == ("bright", "1", "anna")


def test_a_stranger_is_no_evidence_and_something_else_is_a_problem(clients: Clients, copy_of_anna: Candidate) -> None:
    stranger = save({"some.weight": torch.randn(8, 8, generator=torch.Generator().manual_seed(0))})
    found = clients("auditor").post("/v1/identify", content=stranger, headers=FILE).json()
    assert (found["verdict"], found["matches"]) == ("NO EVIDENCE", [])
    assert "does not show that the model is not a copy" in found["sentence"]
    refused = clients("auditor").post("/v1/identify", content=b"\x80\x04pickle", headers=FILE)
    assert refused.status_code == 422


def test_where_nothing_is_marked_nothing_can_be_identified(clients: Clients) -> None:
    refused = clients("auditor").post("/v1/identify", content=save({"a": torch.ones(2, 2)}), headers=FILE)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-input")
    assert clients("auditor").get("/v1/identify/queries").status_code == 422


def test_pictures_go_out_and_answers_come_back(clients: Clients, site: ProjectState, copy_of_anna: Candidate) -> None:
    auditor = clients("auditor")
    got = auditor.get("/v1/identify/queries", params={"model": "bright"})
    with tarfile.open(fileobj=io.BytesIO(got.content)) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    pictures = [name for name in files if name.endswith(".png")]
    assert len(pictures) == 20
    assert Image.open(io.BytesIO(files[pictures[0]])).size == (28, 28)
    assert any(file.name == CARD for file in copy_of_anna.files)
    sheet = "image,label\n" + "".join(f"{name.split('/')[1]},dark\n" for name in pictures)
    found = auditor.post("/v1/identify/answers", content=sheet, headers=SHEET).json()
    assert found["verdict"] == "NO EVIDENCE"
    assert "answers alone" in found["sentence"]
    assert auditor.post("/v1/identify/answers", content="image,label\n", headers=SHEET).status_code == 422
