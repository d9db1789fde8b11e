"""Child process that runs one ONNX file in ONNX Runtime.  Run by ``importing.onnx_session`` only, by path.

It imports nothing of this package, so that it starts quickly.  The file is untrusted: limits are set before it is read,
weights outside the file are accepted from its one companion ``<name>.data`` only, and the process holds no keys.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as state
from safetensors.numpy import load_file, save_file

MEMORY, FILE_SIZE = 24 * 2**30, 8 * 2**30
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
          "tensor(uint8)": "uint8"}  # fmt: skip
ERRORS: tuple[type[Exception], ...] = (ValueError, RuntimeError, OSError, MemoryError, TypeError, *(
    kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)
))  # fmt: skip
"""What ONNX Runtime raises shares no base class but ``Exception``."""
PASSED_OVER = ("Identity", "Cast", "Flatten", "Squeeze", "Reshape", "Dropout")
"""Nodes that leave the order of an answer as it is: the last other one says whether it is a probability."""


def confine() -> None:
    """Hard limits before a byte of the file is read."""
    for what, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        smaller = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (smaller, smaller))


def read(path: Path) -> onnx.ModelProto:
    """The file, valid and whole.  Raises ``ValueError`` with the reason."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        outside = {entry.value for tensor in model.graph.initializer for entry in tensor.external_data
                   if entry.key == "location"}  # fmt: skip
        if outside - {f"{path.name}.data"}:
            raise ValueError(f"weights lie in {', '.join(sorted(outside))}; only {path.name}.data may hold them")
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise ValueError("not an ONNX file") from error
    except onnx.checker.ValidationError as error:
        raise ValueError(f"not a valid ONNX model: {str(error).splitlines()[0][:300]}") from error
    except OSError as error:
        raise ValueError(f"can't be read: {str(error)[:300]}") from error
    return model


def described(model: onnx.ModelProto, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """What the file says of itself, as plain values."""
    makers = {name: node for node in model.graph.node for name in node.output}
    weights = [numpy_helper.to_array(one) for one in model.graph.initializer]
    weights = [one for one in weights if (one.dtype.kind in "fi" and one.ndim > 1) or one.dtype.kind == "f"]
    return {
        "inputs": [_value(item) for item in session.get_inputs()],
        "outputs": [_value(item) | {"last": _last(item.name, makers)} for item in session.get_outputs()],
        "metadata": dict(session.get_modelmeta().custom_metadata_map),
        "opset": max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0),
        "parameters": sum(one.size for one in weights),
        "nonzero": sum(int(np.count_nonzero(one)) for one in weights),
    }


def _value(item: Any) -> dict[str, Any]:
    sizes = [size if isinstance(size, int) and size > 0 else None for size in item.shape or ()]
    return {"name": item.name, "type": item.type, "shape": sizes}


def _last(name: str, makers: dict[str, Any]) -> str:
    """The operator that makes this answer."""
    for _ in range(len(makers)):
        node = makers.get(name)
        if node is None or node.op_type not in PASSED_OVER:
            return "" if node is None else str(node.op_type)
        name = node.input[0]
    return ""


def answers(session: onnxruntime.InferenceSession, images: NDArray[Any], output: str, *, alone: bool) -> NDArray[Any]:
    """The answers to ``(N, C, H, W)`` float32 in 0..1; ``alone``: one image at a time.

    The graph's own layout, number type and batch size are served: channels last, bytes, halves, a fixed batch.
    """
    (image,) = session.get_inputs()
    sizes = list(image.shape)
    images = as_input(images, sizes, DTYPES[image.type])
    fixed = sizes[0] if isinstance(sizes[0], int) and sizes[0] > 0 else None
    step = fixed or (1 if alone else len(images))
    if alone and fixed:
        images = np.repeat(images, fixed, axis=0)
    found = []
    for start in range(0, len(images), step):
        part = images[start : start + step]
        short = step - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
        (made,) = session.run([output], {image.name: filled})
        if made.ndim == 0 or len(made) != step:
            raise ValueError(f"{output} gives {tuple(made.shape)} for {step} images; one row for each is needed")
        found.append(made[: 1 if alone else len(part)])
    return np.ascontiguousarray(np.concatenate(found).astype(np.float32))


def as_input(images: NDArray[Any], sizes: list[Any], kind: str) -> NDArray[Any]:
    """Images in the layout and number type of an input; bytes are 0..255."""
    if channels_last(sizes, images.shape[1:]):
        images = images.transpose(0, 2, 3, 1)
    images = np.rint(images * 255).clip(0, 255) if kind == "uint8" else images
    return np.ascontiguousarray(images.astype(kind))


def channels_last(sizes: list[Any], image: tuple[int, ...]) -> bool:
    """Whether a graph that takes ``sizes`` wants an image ``(C, H, W)`` as ``(H, W, C)``."""

    def fits(order: tuple[int, ...]) -> bool:
        return all(not isinstance(size, int) or size == wanted for size, wanted in zip(sizes[1:], order, strict=True))

    channels, height, width = image
    return not fits((channels, height, width)) and fits((height, width, channels))


def opened(job: dict[str, Any], folder: Path) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """A session on the file, and its description; a file with weights outside is written as one file first."""
    path = Path(job["onnx"])
    model = read(path)
    if path.with_name(f"{path.name}.data").exists():
        path = folder / "whole.onnx"
        onnx.save(model, str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session, described(model, session) | {"whole": str(path)}


def in_one_line(error: Exception) -> str:
    """The first line of what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def say(answer: dict[str, Any]) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(job_file: Path) -> None:
    """Open the file, then answer each request with one JSON line."""
    confine()
    job, folder = json.loads(job_file.read_text("utf-8")), job_file.parent
    try:
        session, description = opened(job, folder)
    except ERRORS as error:
        say({"reasons": [in_one_line(error)]})
        return
    say({"reasons": [], "graph": description})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            images = load_file(request["images"])["images"]
            images = images / 255 if request["bytes"] else images
            made = answers(session, images, request["output"], alone=request["alone"])
            save_file({"answers": made}, request["answers"])
            say({"reasons": []})
        except ERRORS as error:
            say({"reasons": [in_one_line(error)]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
