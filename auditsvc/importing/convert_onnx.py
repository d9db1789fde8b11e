"""Child process that converts ONNX: parse, fold shape arithmetic, and write the network as data.

Run by ``auditsvc.importing.from_onnx`` only.  What does not depend on the content of the images (shape arithmetic,
grids, weights that are computed from weights) is evaluated, not translated: ONNX Runtime runs the graph at two batch
sizes; a number equal to the batch size both times is the batch size, and everything else must be the same twice.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from safetensors.numpy import load_file, save, save_file

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing.onnx_operators import Values, translate
from auditsvc.importing.process_limits import confine
from auditsvc.importing.subprocess_runtime import read
from auditsvc.runtimes.onnxruntime import session
from auditsvc.runtimes.runtime import as_input, channels_last

BATCHES = (2, 3)
"""Both prime and small, so that neither is likely to be a number of channels by chance at both."""


def evaluate(model: onnx.ModelProto, images: NDArray[Any], names: list[str]) -> list[NDArray[Any]]:
    """The values of these names for these images.

    Raises:
        Refused: ONNX Runtime can't run the graph, in its words.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    try:
        running = session(shown.SerializeToString(), optimise=False)
        return running.values(images, names)
    except InvalidInput as error:
        raise Refused(str(error)) from error


@dataclass(frozen=True)
class ImagePort:
    """The image input: its name, number type and layout, and the batch size that the graph fixes, if it does."""

    name: str
    kind: str
    sizes: list[int | str]
    fixed: int | None

    @classmethod
    def of(cls, model: onnx.ModelProto, image: tuple[int, ...]) -> ImagePort:
        """The one input that is no stored weight; sizes that it leaves open become those of ``image``, (C, H, W)."""
        stored = {tensor.name for tensor in model.graph.initializer}
        inputs = [item for item in model.graph.input if item.name not in stored]
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs)
            raise Refused(f"the graph has {len(inputs)} inputs ({names}); one image input is needed")
        kinds = {1: "float32", 10: "float16", 11: "float64", 2: "uint8"}
        dims, kind = inputs[0].type.tensor_type.shape.dim, kinds.get(inputs[0].type.tensor_type.elem_type)
        if len(dims) != 4 or kind is None:
            raise Refused(f"the input {inputs[0].name} takes no images: four dimensions of floats or bytes are needed")
        sizes: list[int | str] = [dim.dim_value if dim.HasField("dim_value") else "open" for dim in dims]
        order = (image[1], image[2], image[0]) if channels_last(sizes, image) else image
        for dim, size in zip(dims[1:], order, strict=True):
            dim.dim_value = size
        first = sizes[0]
        return cls(inputs[0].name, kind, sizes, first if isinstance(first, int) and first > 0 else None)

    def given(self, images: NDArray[Any], size: int) -> NDArray[Any]:
        """So many images, or as many as the graph fixes, as the graph takes them."""
        return as_input(images[: self.fixed or size], self.sizes, self.kind)


def convert(job: dict[str, Any], folder: Path) -> bool:
    """Write ``arguments.json``, ``weights.safetensors``, and the answers of ONNX Runtime to compare with.

    True for a graph that computes in half precision.
    """
    try:
        model = inliner.inline_local_functions(read(Path(job["onnx"])))
    except ValueError as error:
        raise Refused(str(error)) from error
    images = load_file(job["images"])["images"]
    port = ImagePort.of(model, images.shape[1:])
    if port.fixed and port.fixed > len(images):
        raise Refused(f"the batch size is fixed at {port.fixed}: export it with a free one")
    outputs = [item.name for item in model.graph.output]
    answer: str = job["output"] or (outputs[0] if len(outputs) == 1 else "")
    if answer not in outputs:
        raise Refused(f"name one output of {', '.join(outputs)}")
    (folder / "answers.safetensors").write_bytes(_answers(model, port, images, answer))
    inferred = onnx.shape_inference.infer_shapes(model)
    values = _known(inferred, port, images)
    arguments, weights = translate(model, values, port.name, answer, front=_in_front(port, images.shape[1:]))
    (folder / "arguments.json").write_text(json.dumps(arguments), "utf-8")
    plain = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in weights.items()}
    save_file(plain, folder / "weights.safetensors")
    return any(tensor.dtype == np.float16 for tensor in values.stored.values())


def _answers(model: onnx.ModelProto, port: ImagePort, images: NDArray[Any], answer: str) -> bytes:
    step = port.fixed or len(images)
    parts = [images[start : start + step] for start in range(0, len(images) - step + 1, step)]
    made = [evaluate(model, as_input(part, port.sizes, port.kind), [answer])[0] for part in parts]
    return bytes(save({"answers": np.ascontiguousarray(np.concatenate(made).astype(np.float32))}))


def _in_front(port: ImagePort, image: tuple[int, ...]) -> list[dict[str, Any]]:
    """Nodes that bring ``(N, C, H, W)`` in 0..1 into the form that the graph takes."""
    steps: list[tuple[str, dict[str, Any]]] = [("Scale", {"factor": 255.0})] if port.kind == "uint8" else []
    if channels_last(port.sizes, image):
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    names = [*(f"{port.name} as given {place}" for place in range(len(steps))), port.name]
    return [{"op": op, "in": [names[place]], "out": names[place + 1], "at": at} for place, (op, at) in enumerate(steps)]


def _known(inferred: onnx.ModelProto, port: ImagePort, images: NDArray[Any]) -> Values:
    """All that does not depend on what is in the images, at two batch sizes: weights, and what is computed from them
    and from shapes."""
    graph, moving = inferred.graph, {port.name}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    still: list[str] = []
    for node in graph.node:
        inside = {name for one in node.attribute for item in one.g.node for name in item.input}
        if node.op_type not in ("Shape", "Size") and moving & {*node.input, *inside}:
            moving |= set(node.output)
        else:
            still += [name for name in node.output if name]
    values = Values(stored, {}, BATCHES, _sizes(inferred), port.fixed, {}, _opset(inferred))
    if not still:
        return values
    first, second = (evaluate(inferred, port.given(images, size), still) for size in BATCHES)
    for name, one, two in zip(still, first, second, strict=True):
        if one.shape == two.shape and np.array_equal(one, two, equal_nan=one.dtype.kind == "f"):
            stored[name] = one
        elif one.dtype.kind in "iu":
            values.wholes[name] = (one, two)
        elif len(one) == BATCHES[0] and np.array_equal(one[:1].repeat(len(two), 0), two):
            values.rows[name] = one[:1]
    return values


def _opset(model: onnx.ModelProto) -> int:
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def _sizes(inferred: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of every value of the graph; sizes that are not fixed read as 0."""
    return {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }


def main(job_file: Path) -> None:
    """Do the job; one JSON line: no reason, or why not."""
    confine()
    job: dict[str, Any] = json.loads(job_file.read_text("utf-8"))
    reasons: list[str] = []
    half = False
    try:
        half = convert(job, job_file.parent)
    except Refused as error:
        reasons = [str(error).splitlines()[0], *error.reasons]
    sys.stdout.write(json.dumps({"reasons": reasons, "half": half}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
