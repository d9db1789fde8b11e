"""OpenVINO on the CPU.

Its default precision depends on the machine (bfloat16 where the CPU has it), so the precision is always pinned, and a
precision that the CPU lacks is refused instead of replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.runtimes.runtime import Port, Program, Runtime

_NAMES = {"float32": "f32", "int8": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVino(Runtime):
    """Runs an IR (``model.xml`` with ``model.bin``) or ``model.onnx``."""

    id, distribution, library = "openvino", "openvino", "openvino"
    files = ("model.xml", "model.onnx")
    precisions = ("float32", "int8", "bfloat16", "float16")

    def open(self, path: Path, precision: str, threads: int) -> Program:
        """One stream on the CPU."""
        openvino = self.imported()
        core = openvino.Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision in ("bfloat16", "float16") and {"bfloat16": "BF16", "float16": "FP16"}[precision] not in able:
            raise Unavailable(f"this CPU has no {precision} for OpenVINO; it has {', '.join(able)}")
        hints = {"INFERENCE_PRECISION_HINT": _NAMES[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        try:
            model = core.read_model(str(path))
            return _Compiled(model, core.compile_model(model, "CPU", hints))
        except RuntimeError as error:
            raise InvalidInput(f"OpenVINO can't run it: {_line(error)}") from error

    def convert(self, onnx: Path, folder: Path) -> tuple[Path, ...]:
        """An IR whose weights are not compressed."""
        openvino = self.imported()
        openvino.save_model(openvino.Core().read_model(str(onnx)), str(folder / "model.xml"), compress_to_fp16=False)
        return (folder / "model.xml", folder / "model.bin")


class _Compiled:
    def __init__(self, model: Any, compiled: Any) -> None:
        self.inputs, self.outputs = ([_port(item) for item in items] for items in (model.inputs, model.outputs))
        self.integers = any(
            node.get_type_name() == "FakeQuantize"
            or (node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8"))
            for node in model.get_ops()
        )
        self._request, self._places = compiled.create_infer_request(), [port.name for port in self.outputs]

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """The answers of one output."""
        try:
            made = self._request.infer({0: images})
        except RuntimeError as error:
            raise InvalidInput(f"OpenVINO fails: {_line(error)}") from error
        return np.array(made[self._places.index(output)])


def _port(item: Any) -> Port:
    sizes = tuple(None if size.is_dynamic else size.get_length() for size in item.partial_shape)
    return Port(item.any_name, np.dtype(item.element_type.to_dtype()).name, sizes)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:300]
