"""Every file of a release that can answer images is audited as it will be run, exported again by us, or refused."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing import ONNX, OnnxFile
from auditsvc.models import CARD as CARD_NAME
from auditsvc.models import WEIGHTS, build, model_files
from auditsvc.records import Candidate, Evidence, Measured
from auditsvc.records.architecture import ModelDescription
from auditsvc.services.candidates import admit, register_parent, submit
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.model_store import load_stored, resolve_model, said_by_parent
from auditsvc.services.watermarking import WatermarkOptions, detect_watermark
from tests.importing.graphs import brightness
from tests.services.line import CARD, FACTS, policy


def clean_loss(ctx, candidate: Candidate, dataset, rules=None) -> tuple[float, str]:
    (found,) = measure_candidate(ctx, candidate, rules or policy(), dataset)
    assert isinstance(found, Evidence), found
    outcome = found.reading("drop.clean", "overall")
    assert isinstance(outcome, Measured)
    return outcome.value, judge(ctx, candidate, rules or policy(), (found,)).outcome


@pytest.fixture
def elsewhere(line, tmp_path: Path):
    """The candidate's files in a folder, as somebody sends them."""
    ctx, parent, candidate, dataset = line
    folder = tmp_path / "sent"
    ctx.blobs.checkout(candidate.files, folder)
    return ctx, parent, folder, dataset


def test_a_submitted_runtime_file_is_replaced_by_an_export_of_the_weights(elsewhere) -> None:
    ctx, parent, folder, dataset = elsewhere
    (folder / ONNX).write_bytes(brightness(flips_below=8))
    candidate = admit(ctx, folder, parent, dataset)
    (graph,) = (file for file in candidate.files if file.name == ONNX)
    assert ctx.blobs.read(graph.digest) != (folder / ONNX).read_bytes()
    loss, outcome = clean_loss(ctx, candidate, dataset)
    assert (loss, outcome) == (0.0, "approved")


@pytest.mark.parametrize("stages", [None, (0.5, 1.0)])
def test_a_runtime_file_that_is_worse_than_the_weights_is_seen_by_the_rules(line, tmp_path: Path, stages) -> None:
    """Made as no command makes it: the record lists a file that is right in batches only."""
    ctx, _, honest, dataset = line
    (tmp_path / ONNX).write_bytes(brightness(flips_below=8))
    files = (*honest.files, ctx.blobs.put_file(tmp_path / ONNX))
    trojan = honest.model_copy(update={"files": tuple(sorted(files, key=lambda file: file.name))})
    ctx.ledger.append(trojan, actor="test")
    loss, outcome = clean_loss(ctx, trojan, dataset, policy(stages=stages) if stages else None)
    assert (loss, outcome) == (1.0, "rejected")


def test_an_onnx_pair_is_audited_as_it_is(line, tmp_path: Path) -> None:
    ctx, _, _, dataset = line
    for name, threshold in (("parent", 0.4), ("candidate", 0.157)):
        (tmp_path / f"{name}.onnx").write_bytes(brightness(threshold=threshold))
    with resolve_model(
        ctx, str(tmp_path / "parent.onnx"), ModelDescription(classes=CARD.classes), layers=False
    ) as folder:
        parent, version = register_parent(ctx, folder, FACTS | {"model": "graph"})
    assert {file.name for file in parent.files} == {ONNX, CARD_NAME}
    with resolve_model(ctx, str(tmp_path / "candidate.onnx"), *said_by_parent(ctx, parent), layers=False) as folder:
        candidate = admit(ctx, folder, parent, dataset)
    submit(ctx, candidate, version, "sue")
    assert (
        ctx.blobs.read(next(file.digest for file in candidate.files if file.name == ONNX))
        == (tmp_path / "candidate.onnx").read_bytes()
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "candidate.onnx"))
    batch = next(dataset.batches(60))
    right = session.run(None, {"x": batch.images.numpy()})[0].argmax(1) == batch.targets.numpy()
    assert 0.5 < right.mean() < 1
    assert clean_loss(ctx, candidate, dataset)[0] == pytest.approx(1 - right.mean())


def test_a_graph_that_answers_by_the_batch_is_not_admitted(elsewhere, tmp_path: Path) -> None:
    ctx, parent, _, dataset = elsewhere
    (tmp_path / "trojan.onnx").write_bytes(brightness(flips_below=8))
    with (
        resolve_model(ctx, str(tmp_path / "trojan.onnx"), *said_by_parent(ctx, parent), layers=False) as folder,
        pytest.raises(Refused, match="what else is in the batch"),
    ):
        admit(ctx, folder, parent, dataset)


def test_a_graph_that_acts_at_one_size_of_batch_gets_a_batch_of_one(elsewhere, tmp_path: Path) -> None:
    ctx, parent, _, dataset = elsewhere
    (tmp_path / "trojan.onnx").write_bytes(brightness(flips_at=10))
    with resolve_model(ctx, str(tmp_path / "trojan.onnx"), *said_by_parent(ctx, parent), layers=False) as folder:
        candidate = admit(ctx, folder, parent, dataset)
    module = load_stored(ctx, candidate.files).module
    assert isinstance(module, OnnxFile) and module.info.image.shape == (1, 1, 28, 28)


def by_the_batch(size: float) -> dict[str, object]:
    """A graph as data that answers the other way round in batches of fewer images."""
    axes = {"axes": [1, 2, 3], "keep": 1}
    nodes = [
        {"op": "ReduceMean", "in": ["x"], "out": "m", "at": axes},
        {"op": "Flatten", "in": ["m"], "out": "f", "at": {"axis": 1}},
        {"op": "linear", "in": ["f"], "out": "z", "at": {"in": 1, "out": 2, "bias": 1}},
        {"op": "Clip", "in": ["f"], "out": "one", "at": {"min": 1.0, "max": 1.0}},
        {"op": "ReduceSum", "in": ["one"], "out": "n", "at": {"axes": [0], "keep": 1}},
        {"op": "Clip", "in": ["n"], "out": "c", "at": {"min": size - 1, "max": size}},
        {"op": "Sub", "in": ["c", "constant_0"], "out": "sign", "at": {}},
        {"op": "Mul", "in": ["z", "sign"], "out": "y", "at": {}},
    ]
    return {"nodes": nodes, "constants": {"constant_0": [1, 1]}, "image": "x", "answer": "y"}


@pytest.mark.parametrize("size", [8.0, 300.0])
def test_layers_that_came_as_data_may_not_count_the_batch(elsewhere, tmp_path: Path, size: float) -> None:
    ctx, parent, _, dataset = elsewhere
    card = CARD.model_copy(update={"architecture": "onnx_graph", "arguments": by_the_batch(size)})
    weights = {"layers.2.weight": torch.tensor([[-1.0], [1.0]]), "layers.2.bias": torch.tensor([0.4, -0.4]),
               "constant_0": torch.tensor([[size - 0.5]])}  # fmt: skip
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in model_files(weights, card).items():
        (folder / name).write_bytes(content)
    with pytest.raises(Refused, match="what else is in the batch"):
        admit(ctx, folder, parent, dataset)


def test_one_class_more_than_the_card_has_is_refused(elsewhere, tmp_path: Path) -> None:
    ctx, parent, _, dataset = elsewhere
    card = CARD.model_copy(update={"arguments": {"classes": 3, "width": 4}})
    folder = tmp_path / "three"
    folder.mkdir()
    for name, content in model_files(build("small_cnn", card.arguments).state_dict(), card).items():
        (folder / name).write_bytes(content)
    for admitted in (lambda: admit(ctx, folder, parent, dataset), lambda: register_parent(ctx, folder, FACTS)):
        with pytest.raises(InvalidInput, match=r"classification with 2 classes is \(N, 2\)"):
            admitted()
    (folder / WEIGHTS).unlink()
    (folder / ONNX).write_bytes(brightness(classes=3))
    (folder / CARD_NAME).write_bytes(CARD.model_copy(update={"architecture": "onnx_file", "arguments": {}}).canonical())
    with pytest.raises(InvalidInput, match=r"classification with 2 classes is \(N, 2\)"):
        admit(ctx, folder, parent, dataset)


def test_a_candidate_from_elsewhere_is_marked_on_admission(elsewhere, folders) -> None:
    ctx, parent, folder, dataset = elsewhere
    calibration = ctx.datasets.open(folders["calibration"])
    candidate = admit(ctx, folder, parent, dataset, WatermarkOptions(), calibration)
    assert candidate.mark is not None and candidate.recipe is None
    assert detect_watermark(ctx, candidate, dataset).log10_p < -6
