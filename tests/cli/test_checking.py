"""Checking, tracing, witnessing, on a store of a released model, from the command line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from auditsvc.bootstrap import open_context
from auditsvc.cli.app import app
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import AuditError, Conflict, InvalidInput
from auditsvc.models import load_model, model_files
from auditsvc.ports import Context
from auditsvc.provenance import sign_release
from auditsvc.records import Candidate, FileEntry, Parent, Submission
from auditsvc.services.tracing import identify_file
from auditsvc.services.watermarking import WatermarkOptions, embed_watermark
from auditsvc.settings import Settings
from tests.adapters.object_storage import new_bucket, object_storage
from tests.fakes import MemoryRegistry
from tests.provenance.sample import FILES, sealing, write
from tests.services.line import data_in, parent_in

RUNNER = CliRunner()


def run(*words: object, stdin: bytes = b"") -> Result:
    return RUNNER.invoke(app, [str(word) for word in words], input=stdin)


def told(*words: object, code: int = 0) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a release of somebody's and a marked copy for anna."""
    return _a_store(tmp_path_factory.mktemp("checking"))


def _a_store(folder: Path, blobs_url: str = "") -> Path:
    settings = Settings(store=folder / "store", blobs_url=blobs_url)
    ctx = replace(open_context(settings, create=True), registry=MemoryRegistry())
    write(folder / "release-3" / "release", FILES)
    sign_release(folder / "release-3", sealing(), keys=ctx.keys, log=ctx.log, at=ctx.clock.now())
    _mark(ctx, folder)
    return settings.store


def _mark(ctx: Context, folder: Path) -> None:
    model = load_model(parent_in(folder / "parent"))
    parent = Parent(
        model="bright", task="classification", architecture="small_cnn", source="x", licence="MIT", files=()
    )
    calibration = DatasetReaders().open(data_in(folder / "calibration", 60))
    weights, mark = embed_watermark(ctx, parent, model, calibration, WatermarkOptions("anna"))
    files = tuple(
        FileEntry(name=name, size=len(data), digest=ctx.blobs.put(data))
        for name, data in model_files(weights, model.card).items()
    )
    candidate = Candidate(
        model="bright", task="classification", architecture="small_cnn", files=files, parent=parent.digest, mark=mark
    )
    submission = Submission(
        candidate=candidate.digest, model="bright", version="1", submitter="sue", at=ctx.clock.now()
    )
    ctx.ledger.append(parent, candidate, submission, actor="sue")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "found.safetensors")


def test_a_release_is_verified_with_published_trust_and_stale_trust_is_unknown(store: Path, tmp_path: Path) -> None:
    words = ["verify", store.parent / "release-3", "--key", store / "keys" / "release.pub"]
    assert told(*words)["verdict"] == "VALID"
    assert told("trust", "publish", "--store", store, "--out", tmp_path / "trust")["revocations"] == 0
    trusting = [*words, "--trust", tmp_path / "trust", "--memory", tmp_path / "memory"]
    assert told(*trusting)["verdict"] == "VALID"
    assert len(list((tmp_path / "memory").iterdir())) == 1
    (tmp_path / "trust" / "metadata" / "timestamp.json").unlink()
    assert told(*trusting, code=3)["verdict"] == "UNKNOWN"
    assert told(*words, "--resource", "pkg:mlflow/other@1", code=1)["verdict"] == "INVALID"


def test_the_trust_policy_is_shown_as_verify_takes_it(store: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(run("trust", "show", "--store", store).stdout)
    assert told("verify", store.parent / "release-3", "--key", tmp_path / "policy.json")["verdict"] == "VALID"


def test_a_witness_follows_the_log_from_its_key_and_checkpoint(store: Path, tmp_path: Path) -> None:
    key = run("log", "key", "--store", store).stdout.strip()
    note = run("log", "checkpoint", "--store", store).stdout
    made = told("witness", "new", tmp_path / "w", "--name", "w.example/1", "--log", key)
    assert made["vkey"].startswith("w.example/1+") and made["follows"] == [key]
    request = b"old 0\n\n" + note.encode()
    line = run("witness", "add-checkpoint", tmp_path / "w", stdin=request)
    assert line.exit_code == 0 and line.stdout.startswith("\N{EM DASH} w.example/1 ")
    refused = run("witness", "add-checkpoint", tmp_path / "w", stdin=request)
    assert refused.exit_code == 1
    again = run("witness", "new", tmp_path / "w", "--name", "w.example/1", "--log", key)
    assert isinstance(again.exception, Conflict)


def test_a_found_file_is_traced_where_the_files_are_in_object_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_storage():
        url = new_bucket()
        store = _a_store(tmp_path, url)
        assert not (store / "blobs").exists()
        monkeypatch.setenv("AUDITSVC_BLOBS_URL", url)
        ctx = open_context(Settings(store=store))
        expected = identify_file(ctx, tmp_path / "found.safetensors")
        found = told("watermark", "identify", tmp_path / "found.safetensors", "--store", store)
    assert found["verdict"] == expected.verdict == "MATCH"
    assert found["matches"] == expected.model_dump(mode="json", exclude_none=True)["matches"]


def test_a_found_file_is_traced_and_a_stranger_is_not_said_to_be_not_ours(store: Path, tmp_path: Path) -> None:
    found = told("watermark", "identify", store.parent / "found.safetensors", "--store", store)
    assert (found["verdict"], found["matches"][0]["recipient"]) == ("MATCH", "anna")
    words = run("watermark", "identify", store.parent / "found.safetensors", "--store", store).stdout
    assert "the copy of anna (submitted)" in words
    shutil.copy(store.parent / "parent" / "model.safetensors", tmp_path / "x.safetensors")
    stranger = told("watermark", "identify", tmp_path / "x.safetensors", "--store", store, code=3)
    assert stranger["verdict"] == "NO EVIDENCE"
    assert "distillation" in stranger["sentence"]


def test_pictures_and_a_sheet_are_handed_out(store: Path, tmp_path: Path) -> None:
    assert told("watermark", "queries", tmp_path / "q", "--store", store)["images"] == 20
    empty = run("watermark", "identify", "--queries", tmp_path / "q" / "answers.csv", "--store", store)
    assert isinstance(empty.exception, InvalidInput)


@pytest.mark.parametrize("words", [[], ["a.safetensors", "--queries", "b.csv"]])
def test_identify_wants_a_file_or_answers_and_not_both(store: Path, words: list[str]) -> None:
    assert isinstance(run("watermark", "identify", *words, "--store", store).exception, AuditError)


def test_keys_are_listed_retired_and_told_to_have_been_in_foreign_hands(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(store.parent / "release-3", tmp_path / "release-3")
    where = ["--store", tmp_path / "store"]
    assert [key["role"] for key in told("keys", "list", *where)["keys"]] == ["build", "audit", "release"]
    why = ["--reason", "a year is over", "--requested-by", "ann", "--as", "bob"]
    size = told("keys", "retire", "audit", *why, *where)["log_size"]
    windows = {(key["role"], key.get("not_after_log_index")) for key in told("keys", "list", *where)["keys"]}
    assert windows == {("build", None), ("release", None), ("audit", None), ("audit", size - 1)}
    (tmp_path / "policy.json").write_text(run("trust", "show", *where).stdout)
    verifying = ["verify", tmp_path / "release-3", "--key", tmp_path / "policy.json"]
    assert told(*verifying)["verdict"] == "VALID"
    lost = ["keys", "compromised", tmp_path / "store" / "keys" / "audit.retired-1.pub", "--since", 0]
    assert told(*lost, *why, *where)["compromised_since"] == 0
    (tmp_path / "policy.json").write_text(run("trust", "show", *where).stdout)
    assert told(*verifying, code=1)["verdict"] == "INVALID"
    assert isinstance(run("keys", "retire", "log", *why, *where).exception, InvalidInput)
