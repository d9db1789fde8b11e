"""ONNX Runtime runs a file as it is, in a clean process: any layout, number type and batch size, or a clear refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing import batch_faults, one_by_one, open_onnx
from auditsvc.models import InputSpec, Model
from auditsvc.records import TaskName
from auditsvc.records.architecture import Decoding, ModelDescription, Preprocessing
from tests.importing.graphs import brightness, model_of

CLASSES = ("dark", "bright")
IMAGES = torch.linspace(0.05, 0.95, 10).view(10, 1, 1, 1).expand(10, 1, 28, 28).contiguous()


def opened(data: bytes | Path, task: TaskName = "classification", classes: tuple[str, ...] = CLASSES) -> Model:
    return open_onnx(data, ModelDescription(task=task, classes=classes))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (("n", 1, 28, 28), "float32"), (("n", 28, 28, 1), "float32"), (("n", 1, 28, 28), "float16"),
        (("n", 28, 28, 1), "uint8"), ((1, 1, 28, 28), "float64"), ((4, 1, 28, 28), "float32"),
    ],
)  # fmt: skip
def test_any_layout_number_type_and_batch_size_is_served(image, kind) -> None:
    model = opened(brightness(image, kind=kind))
    assert model.card.input == InputSpec(channels=1, height=28, width=28)
    answers = model(IMAGES)
    wanted = IMAGES.mean((1, 2, 3)) - 0.4
    assert torch.allclose(answers, torch.stack([-wanted, wanted], dim=1), atol=3e-3)
    assert torch.allclose(one_by_one(model)(IMAGES), answers, atol=1e-6)
    assert batch_faults(model, IMAGES) == ()


def test_weights_in_the_companion_file_are_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.load_from_string(brightness()), str(path), save_as_external_data=True, location="net.onnx.data",
              size_threshold=0)  # fmt: skip
    model = opened(path)
    assert torch.equal(opened(model.module.data)(IMAGES), model(IMAGES))
    path.with_name("net.onnx.data").rename(tmp_path / "elsewhere.bin")
    moved = onnx.load(str(path), load_external_data=False)
    (tmp_path / "below").mkdir()
    for place, name in ((path, "elsewhere.bin"), (tmp_path / "below" / "net.onnx", "../elsewhere.bin")):
        for tensor in moved.graph.initializer:
            tensor.external_data[0].value = name
        place.write_bytes(moved.SerializeToString())
    assert torch.equal(opened(path)(IMAGES), model(IMAGES))
    path = tmp_path / "below" / "net.onnx"
    with pytest.raises(Refused, match=r"weights are in .*elsewhere.bin; they must be"):
        opened(path)


@pytest.mark.parametrize("below", [2, 8, 64])
def test_a_graph_that_answers_by_the_size_of_the_batch_is_caught(below: int) -> None:
    faults = batch_faults(opened(brightness(flips_below=below)), IMAGES)
    assert faults and all("answers differ" in fault for fault in faults)


@pytest.mark.parametrize(
    ("image", "kind", "fields"),
    [
        (("n", 28, 28, 1), "uint8", {"dtype": "uint8", "range": (0, 255), "layout": "nhwc"}),
        (("n", 1, 28, 28), "float32", {"mean": (0.1,), "std": (2.0,)}),
        (("n", 1, 28, 28), "float16", {"dtype": "float16"}),
    ],
)  # fmt: skip
def test_preprocessing_is_done_once(image, kind, fields) -> None:
    """As the card says it and as the file's own input shows it: together, alone and by the layers."""
    made = Preprocessing(**fields)
    model = open_onnx(brightness(image, kind=kind), ModelDescription(classes=CLASSES, preprocessing=made))
    mean, std = (*made.mean, 0.0)[0], (*made.std, 1.0)[0]
    margin = (IMAGES.mean((1, 2, 3)) - mean) / std - 0.4
    for answers in (model(IMAGES), one_by_one(model)(IMAGES)):
        assert torch.allclose(answers[:, 1], margin, atol=3e-3)
    if kind != "float16":
        assert torch.allclose(model.layers(IMAGES)[:, 1], margin, atol=3e-3)


def test_a_softmax_at_the_end_is_inverted() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["m"], ["y"]),
    ]
    model = opened(model_of(nodes, {}, ["n", 2, 8, 8], {"y": ["n", 2]}))
    images = torch.rand(4, 2, 8, 8)
    assert model.card.output_activation == "softmax"
    assert torch.allclose(model(images).diff(dim=1), images.mean((2, 3)).diff(dim=1), atol=1e-5)


def test_layers_give_the_gradients_that_the_file_does_not_have() -> None:
    model = opened(brightness())
    wanted = IMAGES.clone().requires_grad_(True)
    with pytest.raises(InvalidInput, match="no gradients"):
        model(wanted)
    model.layers(wanted)[:, 1].sum().backward()
    assert torch.allclose(wanted.grad, torch.full_like(IMAGES, 1 / 784), atol=1e-6)


def heads(shape: list[int], image: list[int | str]) -> bytes:
    """A graph that gives a constant of this shape for each image."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["m", "column"], ["c"]),
        helper.make_node("Mul", ["c", "answer"], ["y"]),
    ]
    stored = {"column": np.array([-1, *[1] * len(shape)]), "answer": np.ones([1, *shape], np.float32)}
    return model_of(nodes, stored, image, {"y": ["n", *shape]})


@pytest.mark.parametrize(
    ("task", "shape", "decoding"),
    [
        ("detection", [9, 6], None), ("detection", [6, 9], Decoding(layout="yolo")),
        ("tracking", [9, 7], Decoding(layout="yolo-objectness")), ("ocr", [9, 3], None),
        ("detection", [7, 4, 5], Decoding(layout="grid")),
        ("ocr", [3, 9], Decoding(layout="ctc-channels")), ("segmentation", [2, 8, 8], None),
        ("segmentation", [1, 8, 8], None),
    ],
)  # fmt: skip
def test_the_layout_is_recognised_by_the_shape(task, shape, decoding) -> None:
    assert opened(heads(shape, ["n", 3, 8, 8]), task).card.decoding == decoding


@pytest.mark.parametrize(
    ("task", "data", "words"),
    [
        ("classification", brightness(classes=3), r"gives \(2, 3\); classification with 2 classes is \(N, 2\)"),
        ("classification", heads([2, 8, 8], ["n", 3, 8, 8]), r"\(2, 2, 8, 8\); classification"),
        ("segmentation", heads([3, 8, 8], ["n", 3, 8, 8]), r"segmentation with 2 classes is \(N, 2, H, W\)"),
        ("detection", heads([6, 6], ["n", 3, 8, 8]), "boxes and yolo both fit; name one with --decoding"),
        ("detection", heads([9, 9], ["n", 3, 8, 8]), "no layout fits"),
        ("classification", heads([2], ["n", 3, "h", "w"]), "'x': float32 N x 3 x N x N leaves sizes open"),
        ("classification", b"hello world, this is no model", "not an ONNX file"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shape(task, data, words) -> None:
    with pytest.raises(Refused, match=words):
        opened(data, task)


def test_an_input_of_another_size_is_named() -> None:
    with pytest.raises(Refused, match=r"'x': float32 N x 1 x 28 x 28 does not take images of"):
        open_onnx(brightness(), ModelDescription(classes=CLASSES, input=InputSpec(channels=3, height=28, width=28)))
