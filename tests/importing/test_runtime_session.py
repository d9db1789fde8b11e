"""Real runtimes in clean processes: a faithful file answers as torch does, and every reason not to run one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.importing import ONNX, converted, runs_of
from auditsvc.runtimes import RUNTIMES, cpu_flags, run_named
from tests.runtimes import faulty
from tests.runtimes.missing import Missing

IMAGES = next(faulty.images(24).batches(24)).images


@pytest.fixture(scope="module")
def exact() -> bytes:
    return faulty.as_onnx(faulty.Exact())


@pytest.mark.parametrize("run", ["onnxruntime/float32", "openvino/float32", "mnn/float32"])
def test_a_faithful_file_answers_as_torch_does(exact: bytes, run: str) -> None:
    runtime, precision = run_named(run)
    if runtime.version() is None:
        pytest.skip(f"{runtime.id} is not installed")
    files = {ONNX: exact} | (converted(runtime, exact) if run.startswith("mnn") else {})
    model = faulty.exact()
    for way in runs_of(model, files, runtime, precision):
        assert torch.allclose(way(IMAGES), model(IMAGES), atol=1e-4)


@pytest.mark.parametrize(("run", "most"), [("litert/float32", 1e-4), ("litert/int8", 1.0)])
def test_a_tflite_file_that_was_brought_runs_in_litert(run: str, most: float) -> None:
    """The integer file is in channels-last layout; its largest error is that of two scales of 8 bits."""
    runtime, precision = run_named(run)
    if runtime.version() is None:
        pytest.skip(f"{runtime.id} is not installed")
    name = "exact_int8.tflite" if precision == "int8" else "exact.tflite"
    files, model = {"model.tflite": (Path(faulty.__file__).parent / name).read_bytes()}, faulty.exact()
    wanted = model(IMAGES)
    for way in runs_of(model, files, runtime, precision):
        assert float((way(IMAGES) - wanted).abs().max()) < most
        assert torch.equal(way(IMAGES).argmax(1), wanted.argmax(1))
    if precision == "float32":
        with pytest.raises(InvalidInput, match=r"model.tflite has no INT8 layers, so litert/int8 was not run"):
            runs_of(model, files, runtime, "int8")


def test_why_a_file_is_not_run_is_said(exact: bytes) -> None:
    model = faulty.exact()
    with pytest.raises(InvalidInput, match=r"no model.tflite for litert: bring it"):
        runs_of(model, {ONNX: exact}, *run_named("litert/int8"))
    with pytest.raises(Unavailable, match=r'missing is not installed: pip install "auditsvc\[missing\]"'):
        runs_of(model, {ONNX: exact}, Missing, "float32")
    with pytest.raises(InvalidInput, match=r"model.onnx has no INT8 layers, so onnxruntime/int8 was not run"):
        runs_of(model, {ONNX: exact}, *run_named("onnxruntime/int8"))
    with pytest.raises(InvalidInput, match="not an ONNX file"):
        runs_of(model, {ONNX: b"no model"}, *run_named("onnxruntime/float32"))


def test_every_runtime_names_its_extra_and_its_files() -> None:
    assert set(RUNTIMES.by_id) == {"litert", "mnn", "onnxruntime", "openvino", "torch"}
    assert cpu_flags().split()[0] in ("x86_64", "aarch64", "arm64")


@pytest.mark.slow
@pytest.mark.parametrize("fault", faulty.FAULTS)
def test_a_faulty_file_answers_otherwise_in_onnx_runtime(fault: str) -> None:
    model = faulty.exact()
    ways = runs_of(model, {ONNX: faulty.as_onnx(faulty.FAULTS[fault]())}, *run_named("onnxruntime/float32"))
    wanted = model(IMAGES).argmax(1)
    assert any(bool((way(IMAGES).argmax(1) != wanted).any()) for way in ways)
