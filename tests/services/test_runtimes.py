"""A candidate's files for other runtimes: made from its weights, audited on all images, or refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from auditsvc.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused
from auditsvc.records import CheckSpec, Evidence, Measured, digest_of
from auditsvc.runtimes.litert import LiteRt
from auditsvc.runtimes.runtime import as_input
from auditsvc.services import kit_runner
from auditsvc.services.audit import audit_candidate
from auditsvc.services.candidates import admit, prune_candidate, register_parent, submit
from auditsvc.services.device_kit import admit_measurement, register_device, write_kit
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.model_store import open_run
from auditsvc.services.ownership import write_ownership
from auditsvc.services.watermarking import WatermarkOptions
from tests.runtimes import faulty
from tests.services import line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("runtimes")
    ctx = line.ports_in(folder / "store")
    parent, _ = register_parent(ctx, line.parent_in(folder / "parent"), line.FACTS)
    calibration = ctx.datasets.open(line.data_in(folder / "calibration", 40, seed=1))
    line.data_in(folder / "audited", seed=2)
    candidate = prune_candidate(ctx, parent, line.GOOD, calibration, onnx=True, runtimes=("openvino",))
    return ctx, parent, candidate, calibration, folder


def test_each_file_is_part_of_the_candidate_and_found_again(made) -> None:
    ctx, parent, candidate, calibration, _ = made
    names = {file.name for file in candidate.files}
    assert {"model.onnx", "model.xml", "model.bin", "model.safetensors"} <= names
    assert prune_candidate(ctx, parent, line.GOOD, calibration, onnx=True, runtimes=("openvino",)) == candidate


def test_the_policy_s_runs_are_measured_on_all_images(made) -> None:
    ctx, _, candidate, _, folder = made
    runs = ("onnxruntime/float32", "openvino/float32", "litert/int8")
    checks = {"runtimes": CheckSpec(version=1, parameters={"runs": list(runs)})}
    rules = [{"rule": "flips", "reading": "runtimes/flips.*", "at_most": 0.1, "why": "a test"}]
    data = ctx.datasets.open(folder / "audited")
    (evidence,) = measure_candidate(ctx, candidate, line.policy(checks=checks, rules=rules), data)
    assert isinstance(evidence, Evidence) and evidence.key.machine
    found = {one.metric: one.outcome for one in evidence.readings if one.slice == "camera=b"}
    assert {name for name, one in found.items() if isinstance(one, Measured)} == {
        f"{kind}.{run}" for kind in ("drop", "flips", "margin") for run in ("onnxruntime-float32", "openvino-float32")
    }
    assert found["flips.openvino-float32"].value == 0 and found["flips.openvino-float32"].images == 20
    assert "no model.tflite for litert" in found["flips.litert-int8"].reason


@pytest.mark.slow
def test_the_cost_of_a_file_is_measured_beside_the_parent_s(made) -> None:
    ctx, _, candidate, _, folder = made
    checks = {"cost": CheckSpec(version=1, parameters={"run": "openvino/float32", "turns": 60})}
    rules = [{"rule": "size", "reading": "cost/file_bytes", "at_most": 1e6, "why": "a test"}]
    (evidence,) = measure_candidate(
        ctx, candidate, line.policy(policy="cost", checks=checks, rules=rules), ctx.datasets.open(folder / "audited")
    )
    found = {one.metric: one.outcome for one in evidence.readings}
    sizes = {file.name: file.size for file in candidate.files}
    assert found["file_bytes"].value == sizes["model.xml"] + sizes["model.bin"]
    assert found["latency_ratio"].low > 0.1 and found["latency_p50"].images == 60
    assert found["peak_memory"].value > 1e6 and found["macs"].value == candidate.card["macs"]


def test_a_file_that_does_not_carry_the_mark_is_refused(made) -> None:
    ctx, parent, candidate, calibration, folder = made
    ctx.blobs.checkout(candidate.files, folder / "brought")
    with pytest.raises(Refused, match=r"model.xml, model.bin would not carry the mark"):
        admit(ctx, folder / "brought", parent, calibration, WatermarkOptions("", None, False))
    assert candidate.unproven is None
    assert admit(ctx, folder / "brought", parent, calibration).unproven == ("model.xml",)


def test_an_unknown_runtime_or_format_is_refused(made) -> None:
    ctx, parent, candidate, calibration, _ = made
    with pytest.raises(InvalidInput, match="no runtime tensorrt; known: litert, mnn"):
        prune_candidate(ctx, parent, line.GOOD, calibration, runtimes=("tensorrt",))
    with pytest.raises(InvalidInput, match="no run 'mnn'"):
        open_run(ctx, candidate.files, None, "mnn")


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


RUN = "onnxruntime/float32"


@pytest.fixture(scope="module")
def answered(made):
    """A kit that another process, which knows nothing but the kit, has answered; the device's key."""
    ctx, _, candidate, _, folder = made
    data, key = ctx.datasets.open(folder / "audited"), Ed25519PrivateKey.generate()
    register_device(ctx, "bench-1", "laptop", public(key), "ann")
    write_kit(ctx, candidate, data, RUN, folder / "kit")
    pem = folder / "device.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    command = [sys.executable, "-I", "run.py", "--key", str(pem)]
    subprocess.run(command, cwd=folder / "kit", env={"PATH": ""}, check=True, timeout=120)
    return folder / "kit", key


@pytest.mark.slow
def test_a_device_s_answers_are_judged_like_any_run(made, answered, tmp_path: Path) -> None:
    ctx, _, candidate, _, folder = made
    data = ctx.datasets.open(folder / "audited")
    checks = {
        "runtimes": CheckSpec(version=1, parameters={"runs": [f"{RUN}@bench-1", f"{RUN}@phone"]}),
        "cost": CheckSpec(version=1, parameters={"run": f"{RUN}@bench-1"}),
    }
    rules = [{"rule": "r", "reading": "runtimes/flips.*", "at_most": 0.1, "why": "a test"}]
    policy = line.policy(policy="device", checks=checks, rules=rules)
    before, _ = measure_candidate(ctx, candidate, policy, data)
    assert "sent no measurement" in before.reading("flips.onnxruntime-float32-bench-1", "overall").reason
    admitted = admit_measurement(ctx, answered[0], "bench-1", "bob")
    assert (admitted.run, admitted.candidate, len(admitted.latency_ms)) == (RUN, candidate.digest, 60)
    deployed, cost = measure_candidate(ctx, candidate, policy, data)
    assert deployed.reading("flips.onnxruntime-float32-bench-1", "camera=b").value == 0
    assert "sent no measurement" in deployed.reading("flips.onnxruntime-float32-phone", "overall").reason
    assert cost.reading("latency_p50", "overall").images == 60
    assert cost.reading("latency_ratio", "overall").reason.endswith("the kit has the candidate alone")
    with pytest.raises(Conflict, match="answered before"):
        admit_measurement(ctx, answered[0], "bench-1", "bob")


def test_the_runner_gives_a_tflite_file_its_layout_and_integers() -> None:
    """Pixels over the file's range must not wrap around."""
    pytest.importorskip("ai_edge_litert")
    path, images = Path(faulty.__file__).parent / "exact_int8.tflite", next(faulty.images(24).batches(24)).images
    (port,) = LiteRt().open(path, "int8", 1).inputs
    given = as_input(images.numpy(), list(port.shape), port.type)
    run, _ = kit_runner.opened("litert", path)
    found = np.concatenate([run(given[place : place + 1]) for place in range(len(given))])
    assert given.shape[1:] == (12, 12, 3) and given.max() > 0.9
    assert np.array_equal(found.argmax(1), faulty.exact()(images).argmax(1).numpy())


def resigned(folder: Path, key: Ed25519PrivateKey, **changes: object) -> None:
    said = json.loads((folder / "measurement.json").read_bytes()) | changes
    (folder / "measurement.json").write_text(json.dumps(said))
    (folder / "measurement.sig").write_text(base64.b64encode(key.sign(json.dumps(said).encode())).decode())


def test_what_the_device_did_not_sign_or_was_not_asked_is_refused(made, answered, tmp_path: Path) -> None:
    ctx, (source, key) = made[0], answered
    register_device(ctx, "other", "laptop", public(Ed25519PrivateKey.generate()), "ann")

    def refused(error: type[Exception], words: str, device: str = "bench-1", person: str = "bob") -> None:
        with pytest.raises(error, match=words):
            admit_measurement(ctx, folder, device, person)

    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    for same in ("ann", "Ann."):
        refused(Forbidden, "registered bench-1; another person admits", person=same)
    refused(NotFound, "no device 'phone' is registered", "phone")
    refused(Forbidden, "not the signature of other", "other")
    for impossible in ({"memory_bytes": 0}, {"memory_bytes": -1}, {"cold_ms": float("nan")}):
        resigned(folder, key, **impossible)
        refused(InvalidInput, "measurement.json is no measurement")
    resigned(folder, key, challenge="sha256:" + 64 * "0", cold_ms=1.0, memory_bytes=None)
    refused(Forbidden, "challenge was not issued here")
    folder = Path(shutil.copytree(source, tmp_path / "changed"))
    write_kit(ctx, made[2], ctx.datasets.open(made[4] / "audited"), RUN, tmp_path / "new")
    challenge = digest_of((tmp_path / "new" / "kit.json").read_bytes())
    resigned(folder, key, challenge=challenge)
    np.save(folder / "answers.npy", np.load(folder / "answers.npy") + 1)
    refused(InvalidInput, "does not have the answers that were signed")
    np.save(folder / "answers.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(InvalidInput, "answers.npy is no array")
    (folder / "measurement.sig").write_text("nothing")
    refused(InvalidInput, "no signature in base64")
    with pytest.raises(InvalidInput, match="Ed25519 public key"):
        register_device(ctx, "x", "y", b"no key", "ann")


def test_the_buyer_s_page_and_the_annex_are_written_from_evidence(made, tmp_path: Path) -> None:
    ctx, _, candidate, _, folder = made
    checks = {"accuracy": CheckSpec(version=1), "cost": CheckSpec(version=1, parameters={"turns": 60})}
    rules = [{"rule": "floor", "reading": "accuracy/score.clean", "at_least": 0.5, "why": "a test"}]
    policy, submission = line.policy(policy="owned", checks=checks, rules=rules), submit(ctx, candidate, "1", "ann")
    audit_candidate(ctx, candidate, policy, ctx.datasets.open(folder / "audited"), formats=())
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\nyears: 3\nimages_per_year: 1000000\ncompute_per_hour: 0.1\nerror: 0.02\n")
    page, annex = write_ownership(ctx, "brightness", submission.version, prices, tmp_path / "out", "camera")
    text = page.read_text()
    assert "released now" not in text and "does not fit" in text and "not measured: no evidence has energy" in text
    assert "- perf.latency: cost on" in annex.read_text()
    with pytest.raises(InvalidInput, match="camera, phone, raspberry-pi-4"):
        write_ownership(ctx, "brightness", submission.version, prices, tmp_path / "out", "toaster")
    with pytest.raises(NotFound, match="version 99"):
        write_ownership(ctx, "brightness", "99", prices, tmp_path / "out")
