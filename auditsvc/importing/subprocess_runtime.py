"""Child process that runs deployable files in their runtimes.  Run by ``importing.runtime_session`` only, by path.

It imports torch for the runtime torch alone, so that it starts quickly.  The files are untrusted: limits are set before
one is read, weights outside an ONNX file are accepted from its one companion ``<name>.data`` only, and the process
holds no keys.  A runtime that prints does not disturb the answers: the standard output is kept for them.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

sys.path.append(str(Path(__file__).parents[2]))

from auditsvc.errors import AuditError
from auditsvc.runtimes.runtime import Program, Runtime, as_input

MEMORY, FILE_SIZE = 24 * 2**30, 8 * 2**30
ERRORS = (AuditError, ValueError, RuntimeError, OSError, MemoryError, TypeError)
PASSED_OVER = ("Identity", "Cast", "Flatten", "Squeeze", "Unsqueeze", "Reshape", "Dropout", "QuantizeLinear",
               "DequantizeLinear")  # fmt: skip
"""Nodes that leave the order of an answer as it is: the last other one says whether it is a probability."""


def confine() -> IO[str]:
    """Hard limits before a byte of a file is read; the stream for answers, which nothing else writes to."""
    for what, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILE_SIZE), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        smaller = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (smaller, smaller))
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return stream


def read(path: Path) -> Any:
    """The ONNX file, valid and whole.  Raises ``ValueError`` with the reason."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        outside = companions(path)
        if elsewhere := [one for one in outside if Path(one).name != one or (path.parent / one).is_symlink()]:
            raise ValueError(f"weights are in {', '.join(elsewhere)}; they must be in files of the same folder")
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise ValueError("not an ONNX file") from error
    except onnx.checker.ValidationError as error:
        raise ValueError(f"not a valid ONNX model: {str(error).splitlines()[0][:300]}") from error
    except OSError as error:
        raise ValueError(f"can't be read: {str(error)[:300]}") from error
    return model


def companions(path: Path) -> list[str]:
    """The other files that hold weights of an ONNX file."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return sorted({entry.value for tensor in graph.initializer for entry in tensor.external_data
                   if entry.key == "location"})  # fmt: skip


def described(model: Any, program: Program) -> dict[str, Any]:
    """What the file says of itself, as plain values; of an ONNX file also its operators and weights."""
    said: dict[str, Any] = {"inputs": [vars(one) for one in program.inputs], "integers": program.integers}
    said |= {"outputs": [vars(one) for one in program.outputs], "metadata": getattr(program, "metadata", {})}
    if model is None:
        return said
    from onnx import numpy_helper

    makers = {name: node for node in model.graph.node for name in node.output}
    weights = [numpy_helper.to_array(one) for one in model.graph.initializer]
    weights = [one for one in weights if (one.dtype.kind in "fi" and one.ndim > 1) or one.dtype.kind == "f"]
    return said | {
        "outputs": [one | {"last": _last(one["name"], makers)} for one in said["outputs"]],
        "opset": max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0),
        "parameters": sum(one.size for one in weights),
        "nonzero": sum(int(np.count_nonzero(one)) for one in weights),
    }


def _last(name: str, makers: dict[str, Any]) -> str:
    """The operator that makes this answer."""
    for _ in range(len(makers)):
        node = makers.get(name)
        if node is None or node.op_type not in PASSED_OVER:
            return "" if node is None else str(node.op_type)
        name = node.input[0]
    return ""


def answers(program: Program, images: NDArray[Any], output: str, *, alone: bool) -> NDArray[Any]:
    """The answers to ``(N, C, H, W)`` float32 in 0..1; ``alone``: one image at a time.

    The program's own layout, number type and batch size are served: channels last, bytes, halves, a fixed batch.
    """
    (image,) = program.inputs
    images = as_input(images, image.shape, image.type)
    fixed = image.shape[0] or None
    step = fixed or (1 if alone else len(images))
    if alone and fixed:
        images = np.repeat(images, fixed, axis=0)
    found = []
    for start in range(0, len(images), step):
        part = images[start : start + step]
        short = step - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
        made = program.run(filled, output)
        if made.ndim == 0 or len(made) != step:
            raise ValueError(f"{output} gives {tuple(made.shape)} for {step} images; one row for each is needed")
        found.append(made[: 1 if alone else len(part)])
    return np.ascontiguousarray(np.concatenate(found).astype(np.float32))


def opened(job: dict[str, Any], folder: Path) -> tuple[Program, dict[str, Any]]:
    """A program of the file, and its description; a file with weights outside is written as one file first."""
    path, model = Path(job["file"]), None
    if path.suffix == ".onnx":
        model = read(path)
        if companions(path):
            import onnx

            path = folder / "whole.onnx"
            onnx.save(model, str(path))
    before, start = _memory("VmRSS"), time.perf_counter()
    program = runtime(job).open(path, job["precision"], job["threads"])
    said = described(model, program) | {"whole": str(path), "open_ms": 1e3 * (time.perf_counter() - start)}
    return program, said | {"memory_before": before}


def runtime(job: dict[str, Any]) -> Runtime:
    """The runtime that the job names as ``module:Class``."""
    module, _, name = job["runtime"].partition(":")
    sys.path.append(job["site"])
    found: Runtime = getattr(importlib.import_module(module), name)()
    return found


def _memory(which: str) -> int:
    """``VmRSS``, the resident size, or ``VmHWM``, its peak, in bytes; ``getrusage`` also counts the parent's."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{which}:"))


def answer(request: dict[str, Any], program: Program) -> dict[str, Any]:
    """What one request asks for: answers written to a file, or times in ms, of single images or of all in a batch."""
    images = load_file(request["images"])["images"]
    images = images / 255 if request.get("bytes") else images
    if "times" not in request:
        save_file({"answers": answers(program, images, request["output"], alone=request["alone"])}, request["answers"])
        return {}
    times = []
    for turn in range(request["times"]):
        start = time.perf_counter_ns()
        given = images[turn % len(images) :][:1] if request["alone"] else images
        answers(program, given, request["output"], alone=request["alone"])
        times.append((time.perf_counter_ns() - start) / 1e6)
    return {"ms": times, "memory": _memory("VmHWM")}


def in_one_line(error: BaseException) -> str:
    """The first line of what went wrong."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def main(job_file: Path) -> None:
    """Open the file, then answer each request with one JSON line."""
    stream = confine()

    def say(answer: dict[str, Any]) -> None:
        stream.write(json.dumps(answer) + "\n")
        stream.flush()

    job, folder = json.loads(job_file.read_text("utf-8")), job_file.parent
    try:
        if "convert" in job:
            say({"reasons": [], "files": [str(path) for path in runtime(job).convert(Path(job["convert"]), folder)]})
            return
        program, description = opened(job, folder)
    except ERRORS as error:
        say({"reasons": [in_one_line(error)], "error": type(error).__name__})
        return
    say({"reasons": [], "graph": description})
    for line in sys.stdin:
        try:
            say({"reasons": []} | answer(json.loads(line), program))
        except ERRORS as error:
            say({"reasons": [in_one_line(error)]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
