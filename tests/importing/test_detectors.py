"""Detectors with their answer in several outputs, or after suppression: read rightly, or refused with the reason."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing import open_onnx
from auditsvc.models import InputSpec, Model
from auditsvc.records.architecture import Decoding, ModelDescription
from auditsvc.tasks.boxes import select_detections

LIKE = ModelDescription(task="detection", classes=("cat", "dog"), input=InputSpec(channels=3, height=20, width=40))
SHARES = [[0.1, 0.2, 0.5, 0.6], [0.5, 0.0, 1.0, 0.5], [0.0, 0.0, 0.3, 0.3]]
PIXELS = [[4, 4, 20, 12], [20, 0, 40, 10], [0, 0, 12, 6]]
SURE = [[0.9, 0.05], [0.1, 0.8], [0.2, 0.1]]
BEHIND = [[0.05, 0.9, 0.05], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1]]
FOUND = [([0.1, 0.2, 0.5, 0.6], 0), ([0.5, 0.0, 1.0, 0.5], 1)]
Rows = dict[str, tuple[list[Any], str]]


def constant(
    outputs: Rows, *, image: tuple[Any, ...] = (1, 3, 20, 40), metadata: dict[str, str] | None = None
) -> bytes:
    """A graph that gives these values whatever the image is."""
    nodes = [helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
             helper.make_node("Mul", ["most", "none"], ["zero"])]  # fmt: skip
    weights, shown = [numpy_helper.from_array(np.float32(0), "none")], []
    for name, (values, kind) in outputs.items():
        stored: NDArray[Any] = np.array(values, np.dtype(kind))
        weights.append(numpy_helper.from_array(stored, f"{name}-held"))
        number = helper.np_dtype_to_tensor_dtype(stored.dtype)
        nodes += [helper.make_node("Cast", ["zero"], [f"{name}-zero"], to=number),
                  helper.make_node("Add", [f"{name}-held", f"{name}-zero"], [name])]  # fmt: skip
        shown.append(helper.make_tensor_value_info(name, number, stored.shape))
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, image)
    model = helper.make_model(
        helper.make_graph(nodes, "detector", [given], shown, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    helper.set_model_props(model, metadata or {})
    data: bytes = onnx.ModelProto.SerializeToString(model)
    return data


def ultralytics(task: str = "detect") -> dict[str, str]:
    return {"task": task, "names": "{0: 'cat', 1: 'dog'}", "imgsz": "[20, 40]"}


def centred(more: int = 0) -> list[list[list[float]]]:
    """Centre and size in pixels, confidences, and so many numbers that are no confidences: (1, 4 + 2 + more, 3)."""
    rows = [[(a + c) / 2, (b + d) / 2, c - a, d - b, *sure, *[7.0] * more]
            for (a, b, c, d), sure in zip(PIXELS, SURE, strict=True)]  # fmt: skip
    return [[list(column) for column in zip(*rows, strict=True)]]


def found(model: Model) -> list[tuple[list[float], int]]:
    """The selected detections of one image."""
    seen = select_detections(model(torch.rand(2, 3, 20, 40)))
    boxes, classes = seen.boxes[1][seen.selected[1]], seen.classes[1][seen.selected[1]]
    return [(box.tolist(), int(kind)) for box, kind in zip(boxes, classes, strict=True)]


TORCHVISION: Rows = {"1": (PIXELS, "float32"), "2": ([1, 2, 1], "int64"), "3": ([0.9, 0.8, 0.2], "float32")}
BEHIND_SAID = ModelDescription(decoding=Decoding(layout="detections-background"))
READ: dict[str, tuple[bytes, ModelDescription]] = {
    "UltraFace: scores with a background, boxes": (
        constant({"scores": ([BEHIND], "float32"), "boxes": ([SHARES], "float32")}), ModelDescription()),
    "boxes with one row of four, confidences": (
        constant({"boxes": ([[[box] for box in SHARES]], "float32"), "confs": ([SURE], "float32")}),
        ModelDescription()),
    "torchvision: no batch, labels from 1": (constant(TORCHVISION, image=(3, 20, 40)), BEHIND_SAID),
    "Mask R-CNN: masks are not read": (
        constant(TORCHVISION | {"4": (np.zeros((3, 1, 4, 4)).tolist(), "float32")}, image=(3, "h", "w")), BEHIND_SAID),
    "a batch of one, labels from 0": (
        constant({"kind": ([[0, 1, 0]], "int32"), "boxes": ([PIXELS], "float32"),
                  "sure": ([[0.9, 0.8, 0.2]], "float32")}),
        ModelDescription(decoding=Decoding(layout="detections"))),
    "TensorFlow: by name, y first, classes as floats": (
        constant({"detection_boxes": ([[[b, a, d, c] for a, b, c, d in SHARES]], "float32"),
                  "detection_classes": ([[1, 2, 1]], "float32"), "detection_scores": ([[0.9, 0.8, 0.2]], "float32"),
                  "num_detections": ([3], "float32")}), ModelDescription()),
    "a list of classes that begins with the background": (
        constant(TORCHVISION, image=(3, 20, 40)),
        ModelDescription(classes=("__background__", "cat", "dog"), decoding=Decoding(layout="detections-background"))),
    "centre and size in shares, more classes than the data": (
        constant({"boxes": ([[[(a + c) / 2, (b + d) / 2, c - a, d - b] for a, b, c, d in SHARES]], "float32"),
                  "scores": ([[[0.01, *row] for row in SURE]], "float32")}),
        ModelDescription(classes=("cow", "cat", "dog"), decoding=Decoding(layout="boxes", corners="cxcywh"))),
    "Ultralytics detect": (constant({"output0": (centred(), "float32")}, metadata=ultralytics()), ModelDescription()),
    "Ultralytics segment": (
        constant({"output0": (centred(32), "float32"), "output1": (np.ones((1, 32, 5, 10)).tolist(), "float32")},
                 metadata=ultralytics("segment")), ModelDescription()),
    "Ultralytics with suppression inside": (
        constant({"output0": ([[[*box, max(sure), float(np.argmax(sure))]
                                for box, sure in zip(PIXELS, SURE, strict=True)]], "float32")},
                 metadata=ultralytics()), ModelDescription()),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_a_detector_is_read_rightly(kind: str) -> None:
    data, said = READ[kind]
    seen = found(open_onnx(data, said, LIKE))
    assert [kind for _, kind in seen] == [kind for _, kind in FOUND]
    for (box, _), (wanted, _) in zip(seen, FOUND, strict=True):
        assert box == pytest.approx(wanted, abs=1e-6)


REFUSED: dict[str, tuple[bytes, str]] = {
    "pixels taken for shares": (
        constant({"boxes": ([PIXELS], "float32"), "scores": ([SURE], "float32")}), "boxes reach to 40 times the image"),
    "centre and size": (
        constant({"boxes": ([[[0.5, 0.5, 0.2, 0.2]] * 3], "float32"), "scores": ([SURE], "float32")}), "100% of them"),
    "logits": (
        constant({"boxes": ([SHARES], "float32"), "scores": ([[[3.0, -2.0]] * 3], "float32")}), "from -2 to 3"),
    "labels from 0 or from 1": (
        constant(TORCHVISION, image=(3, 20, 40)), "detections and detections-background both fit"),
    "other numbers of rows": (
        constant({"boxes": ([SHARES], "float32"), "scores": ([SURE[:2]], "float32")}), r"\(1, 3, 4\), \(1, 2, 2\)"),
    "more classes than are named": (
        constant({"boxes": ([SHARES], "float32"), "scores": ([[[0.1] * 7] * 3], "float32")}), "no layout fits"),
    "two outputs that may be boxes": (
        constant({"one": ([SHARES], "float32"), "two": ([SHARES], "float32")}), "name one output of"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_detector_that_can_not_be_read_is_refused_with_the_reason(kind: str) -> None:
    data, words = REFUSED[kind]
    with pytest.raises((Refused, InvalidInput)) as refused:
        open_onnx(data, ModelDescription(), LIKE)
    assert re.search(words, " ".join((str(refused.value), *refused.value.reasons)))
