"""Child process that converts ONNX: parse, fold shape arithmetic, and write the network as data.

Run by ``auditsvc.importing.from_onnx`` only.  Shape arithmetic (Shape, Gather, Concat, ...) is evaluated, not
translated: ONNX Runtime runs the graph at two batch sizes; a number equal to the batch size both times is the batch
size, and everything else must be the same twice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from safetensors.numpy import load_file, save_file

from auditsvc.errors import Refused
from auditsvc.importing.onnx_operators import Values, translate
from auditsvc.importing.process_limits import confine

BATCHES = (2, 3)
"""Both prime and small, so that neither is likely to be a number of channels by chance at both."""


def read(path: Path) -> onnx.ModelProto:
    """The model, with local functions inlined.

    Raises:
        Refused: weights outside the file and its one companion ``<name>.data``, or not valid ONNX.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            outside = {entry.value for entry in tensor.external_data if entry.key == "location"}
            if outside - {f"{path.name}.data"}:
                raise Refused(f"weights lie in {', '.join(sorted(outside))}; only {path.name}.data may hold them")
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        return inliner.inline_local_functions(model)
    except DecodeError as error:
        raise Refused("not an ONNX file") from error
    except (onnx.checker.ValidationError, ValueError, OSError, RuntimeError) as error:
        raise Refused(f"not a valid ONNX model: {str(error).splitlines()[0][:300]}") from error


def evaluate(model: onnx.ModelProto, images: NDArray[np.float32], names: list[str]) -> list[NDArray[Any]]:
    """The values of these names for these images."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values: list[NDArray[Any]] = session.run(names, {session.get_inputs()[0].name: images})
    return values


def free_batch(model: onnx.ModelProto) -> bool:
    """Make the batch size of the input free; whether it was fixed."""
    (image,) = [item for item in model.graph.input if item.name not in {w.name for w in model.graph.initializer}]
    first = image.type.tensor_type.shape.dim[0]
    fixed = bool(first.HasField("dim_value"))
    if fixed:
        first.Clear()
        first.dim_param = "batch"
        for item in (*model.graph.output, *model.graph.value_info):
            if item.type.tensor_type.shape.dim:
                item.type.tensor_type.shape.dim[0].Clear()
                item.type.tensor_type.shape.dim[0].dim_param = "batch"
    return fixed


def convert(job: dict[str, Any], folder: Path) -> None:
    """Write ``arguments.json``, ``weights.safetensors``, and the answers of ONNX Runtime to compare with."""
    model = read(Path(job["onnx"]))
    images = load_file(job["images"])["images"]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [item.name for item in model.graph.input if item.name not in stored]
    if len(inputs) != 1:
        raise Refused(f"the graph has {len(inputs)} inputs ({', '.join(inputs)}); one image input is needed")
    outputs = [item.name for item in model.graph.output]
    answer: str = job["output"] or (outputs[0] if len(outputs) == 1 else "")
    if answer not in outputs:
        raise Refused(f"name one output of {', '.join(outputs)}")
    was_fixed = free_batch(model)
    inferred = onnx.shape_inference.infer_shapes(model)
    values = Values(stored, _whole_numbers(inferred, images, stored), BATCHES, _sizes(inferred))
    arguments, weights = translate(model, values, inputs[0], answer, was_fixed=was_fixed)
    (folder / "arguments.json").write_text(json.dumps(arguments), "utf-8")
    plain = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in weights.items()}
    save_file(plain, folder / "weights.safetensors")
    if was_fixed:
        one_by_one = [evaluate(read(Path(job["onnx"])), images[i : i + 1], [answer])[0] for i in range(len(images))]
        answers = np.concatenate(one_by_one)
    else:
        answers = evaluate(model, images, [answer])[0]
    save_file({"answers": np.ascontiguousarray(answers)}, folder / "answers.safetensors")


def _sizes(inferred: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of every value inside the graph; sizes that are not fixed read as 0."""
    return {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*inferred.graph.value_info, *inferred.graph.output)
    }


def _whole_numbers(
    inferred: onnx.ModelProto, images: NDArray[np.float32], stored: dict[str, NDArray[Any]]
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Every whole-number value inside the graph that depends on the shape of the input, at both batch sizes."""
    kinds = {item.name: item.type.tensor_type.elem_type for item in inferred.graph.value_info}
    whole = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    made = [name for node in inferred.graph.node for name in node.output]
    names = [name for name in made if kinds.get(name) in whole and name not in stored]
    if not names:
        return {}
    first, second = (evaluate(inferred, images[:size], names) for size in BATCHES)
    return dict(zip(names, zip(first, second, strict=True), strict=True))


def main(job_file: Path) -> None:
    """Do the job; one JSON line: no reason, or why not."""
    confine()
    job: dict[str, Any] = json.loads(job_file.read_text("utf-8"))
    reasons: list[str] = []
    try:
        convert(job, job_file.parent)
    except Refused as error:
        reasons = [str(error).splitlines()[0], *error.reasons]
    sys.stdout.write(json.dumps({"reasons": reasons}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
