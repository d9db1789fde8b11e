"""A candidate's files for other runtimes: made from its weights, audited on all images, or refused."""

from __future__ import annotations

import pytest

from auditsvc.errors import InvalidInput, Refused
from auditsvc.records import CheckSpec, Evidence, Measured
from auditsvc.services.candidates import admit, prune_candidate, register_parent
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.model_store import open_run
from auditsvc.services.watermarking import WatermarkOptions
from tests.services import line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("runtimes")
    ctx = line.ports_in(folder / "store")
    parent, _ = register_parent(ctx, line.parent_in(folder / "parent"), line.FACTS)
    calibration = ctx.datasets.open(line.data_in(folder / "calibration", 40, seed=1))
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
    data = ctx.datasets.open(line.data_in(folder / "audited", seed=2))
    (evidence,) = measure_candidate(ctx, candidate, line.policy(checks=checks, rules=rules), data)
    assert isinstance(evidence, Evidence) and evidence.key.machine
    found = {one.metric: one.outcome for one in evidence.readings if one.slice == "camera=b"}
    assert {name for name, one in found.items() if isinstance(one, Measured)} == {
        f"{kind}.{run}" for kind in ("drop", "flips", "margin") for run in ("onnxruntime-float32", "openvino-float32")
    }
    assert found["flips.openvino-float32"].value == 0 and found["flips.openvino-float32"].images == 20
    assert "no model.tflite for litert" in found["flips.litert-int8"].reason


def test_a_file_that_does_not_carry_the_mark_is_refused(made) -> None:
    ctx, parent, candidate, calibration, folder = made
    ctx.blobs.checkout(candidate.files, folder / "brought")
    with pytest.raises(Refused, match=r"model.xml, model.bin would not carry the mark"):
        admit(ctx, folder / "brought", parent, calibration, WatermarkOptions("", None, False))


def test_an_unknown_runtime_or_format_is_refused(made) -> None:
    ctx, parent, candidate, calibration, _ = made
    with pytest.raises(InvalidInput, match="no runtime tensorrt; known: litert, mnn"):
        prune_candidate(ctx, parent, line.GOOD, calibration, runtimes=("tensorrt",))
    with pytest.raises(InvalidInput, match="no run 'mnn'"):
        open_run(ctx, candidate.files, None, "mnn")
