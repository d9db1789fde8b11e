"""Model files of other formats, and predictions without models: at most two commands and one file, the right numbers.

What is expected comes of ONNX Runtime, Pillow and numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from PIL import Image
from torch import nn

from auditsvc.adapters.mlflow_registry import open_client
from tests.roads import small
from tests.roads.conftest import Person
from tests.roads.test_roads import Networks

pytestmark = pytest.mark.slow

IMAGES = 60
FILES = ("dense.onnx", "small.onnx")


def in_front(path: Path, image: list[int | str], kind: int, nodes: list[onnx.NodeProto]) -> None:
    """Put nodes that end in ``x`` before the graph's input; the new input is ``image`` of this type."""
    model = onnx.load(path)
    side = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, small.SIDE, small.SIDE])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0])
    graph = helper.make_graph(nodes, "front", [helper.make_tensor_value_info("image", kind, image)], [side], [scale])
    front = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(compose.merge_models(front, model, io_map=[("x", "input")]), path)


def nhwc_bytes(path: Path) -> None:
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
             helper.make_node("Div", ["float", "scale"], ["share"]),
             helper.make_node("Transpose", ["share"], ["x"], perm=[0, 3, 1, 2])]  # fmt: skip
    in_front(path, ["batch", small.SIDE, small.SIDE, 3], TensorProto.UINT8, nodes)


def halves(path: Path) -> None:
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT)]
    in_front(path, ["batch", 3, small.SIDE, small.SIDE], TensorProto.FLOAT16, nodes)


def outside(path: Path) -> None:
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


class Calibration(CalibrationDataReader):
    """One batch of images."""

    def __init__(self) -> None:
        self.batches = iter([{"input": as_given(small.pictures(16, 9)[0], "float32", last=False)}])

    def get_next(self) -> Any:
        return next(self.batches, None)


def int8(kind: QuantFormat) -> Callable[[Path], None]:
    def quantize(path: Path) -> None:
        quantize_static(str(path), str(path), Calibration(), quant_format=kind)

    return quantize


def as_given(pixels: NDArray[np.uint8], kind: str, *, last: bool) -> NDArray[Any]:
    scaled = pixels if kind == "uint8" else pixels.astype(np.float32) / 255
    return (scaled if last else scaled.transpose(0, 3, 1, 2)).astype(kind)


def accuracy(path: Path, pixels: small.Pictures) -> float:
    """ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(str(path))
    (image,) = session.get_inputs()
    kind = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(image.type, "float32")
    given = as_given(pixels[0], kind, last=image.shape[3] == 3)
    (answers,) = session.run(None, {image.name: given})
    return float((answers.argmax(1) == pixels[1]).mean())


def written(folder: Path, networks: Networks, change: Callable[[Path], None]) -> tuple[float, float]:
    """Both networks in this format, photos, and the accuracy of each."""
    pixels = small.pictures(IMAGES, 5)
    small.image_folder(folder / "photos", pixels)
    for network, name in zip(networks, FILES, strict=True):
        small.save_onnx(small.Prepared(network).eval(), folder / name)
        change(folder / name)
    dense, candidate = (accuracy(folder / name, pixels) for name in FILES)
    return dense, candidate


def walk(person: Person, *options: str) -> dict[str, Any]:
    """Both commands, and that nothing but ``audit.yaml`` is written."""
    before = {path.name for path in person.folder.iterdir()}
    person.call("init", *options, "--data", "photos", "--as", "ann", code=0)
    decision = person.call("audit")
    assert {path.name for path in person.folder.iterdir()} - before == {"audit.yaml"}
    assert person.commands == 2
    return decision


def clean(decision: dict[str, Any]) -> tuple[float, float]:
    assert "clean" in decision, decision
    return decision["clean"]["parent"], decision["clean"]["score"]


FORMATS: dict[str, Callable[[Path], None]] = {
    "bytes, channels last": nhwc_bytes,
    "halves": halves,
    "weights in a file of their own": outside,
    "INT8, QDQ": int8(QuantFormat.QDQ),
    "INT8, QOperator": int8(QuantFormat.QOperator),
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_onnx_file_of_any_format_is_audited_as_it_is(name: str, person: Person, networks: Networks) -> None:
    expected = written(person.folder, networks, FORMATS[name])
    decision = walk(person, "--model", "small.onnx", "--parent", "dense.onnx", "--name", "formats")
    assert clean(decision) == pytest.approx(expected, abs=1e-6)


def test_versions_of_mlflow_are_a_road(person: Person, networks: Networks, _store: Path) -> None:
    expected = written(person.folder, networks, outside)
    client = open_client(f"sqlite:///{_store}/store/mlflow.db", _store / "store" / "mlflow-artifacts")
    client.create_registered_model("shared")
    for name in FILES:
        place = person.folder / f"logged-{name}"
        place.mkdir()
        for file in (name, f"{name}.data"):
            (person.folder / file).rename(place / file)
        client.create_model_version("shared", source=place.as_uri())
    client.set_registered_model_alias("shared", "dense", "1")
    decision = walk(person, "--model", "models:/shared/2", "--parent", "models:/shared@dense", "--name", "versions")
    assert clean(decision) == pytest.approx(expected, abs=1e-6)


def test_outputs_in_another_order_are_read_by_name(person: Person, networks: Networks) -> None:
    """The networks answer in another order than the folders have."""
    order = [2, 0, 3, 1]
    turned = tuple(nn.Sequential(small.Prepared(one), Picked(order)).eval() for one in networks)
    pixels = small.pictures(IMAGES, 5)
    small.image_folder(person.folder / "photos", pixels)
    for network, name in zip(turned, FILES, strict=True):
        small.save_onnx(network, person.folder / name)
    classes = ",".join(small.CLASSES[place] for place in order)
    decision = walk(person, "--model", "small.onnx", "--parent", "dense.onnx", "--classes", classes, "--name", "turned")
    assert clean(decision) == pytest.approx([small.accuracy(one, pixels) for one in networks], abs=1e-6)


@pytest.mark.parametrize("factors", [(2, 2), (2, 3)], ids=["one size", "two sizes"])
def test_photos_of_other_sizes_are_scaled(factors: tuple[int, int], person: Person, networks: Networks) -> None:
    """As ``torchvision.transforms.v2.Resize`` scales tensors; of several sizes to bytes."""
    pixels, labels = small.pictures(IMAGES, 5)
    scaled = torch.empty(IMAGES, 3, small.SIDE, small.SIDE)
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        large = np.kron(image, np.ones((2, factors[number % 2], 1), np.uint8))
        place = person.folder / "photos" / small.CLASSES[label] / f"{number:04}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(large).save(place)
        given = torch.from_numpy(as_given(large[None], "float32", last=False))
        made = nn.functional.interpolate(given, (small.SIDE, small.SIDE), mode="bilinear", antialias=True)[0]
        scaled[number] = made if factors[0] == factors[1] else (made * 255).round() / 255
    expected = []
    for network, name in zip(networks, FILES, strict=True):
        whole = small.Prepared(network).eval()
        small.save_onnx(whole, person.folder / name)
        with torch.inference_mode():
            expected.append(float((whole(scaled).argmax(1).numpy() == labels).mean()))
    decision = walk(person, "--model", "small.onnx", "--parent", "dense.onnx", "--name", "scaled")
    assert clean(decision) == pytest.approx(expected, abs=1e-6)


class Picked(nn.Module):
    """The outputs in another order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        return answers[:, self.order]


class InParts(nn.Module):
    """Confidences behind a background's, and boxes, as two outputs."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = self.detector(images)
        sure = whole[..., 4:]
        return torch.cat((1 - sure.amax(2, keepdim=True), sure), dim=2), whole[..., :4]


def test_a_detector_with_two_outputs(person: Person) -> None:
    networks = (small.CellDetector().eval(), small.CellDetector(blind=3).eval())
    for network, name in zip(networks, FILES, strict=True):
        free = {name: {0: "batch"} for name in ("input", "scores", "boxes")}
        torch.onnx.export(InParts(network), (torch.zeros(2, 3, 32, 32),), str(person.folder / name), dynamo=False,
                          input_names=["input"], output_names=["scores", "boxes"], dynamic_axes=free)  # fmt: skip
    small.coco(person.folder / "coco", 40, 3)
    person.call("init", "--model", FILES[1], "--parent", FILES[0], "--data", "coco", "--as", "ann", code=0)
    expected = [small.mean_f1(network, *small.cells(40, 3)) for network in networks]
    assert clean(person.call("audit")) == pytest.approx(expected, abs=1e-6)
    assert person.commands == 2
