"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.errors import InvalidInput
from auditsvc.runtimes.runtime import Port, Program, Runtime


class LiteRt(Runtime):
    """Runs ``model.tflite``, which is brought: auditsvc does not write this format."""

    id, distribution, library = "litert", "ai-edge-litert", "ai_edge_litert.interpreter"
    files = ("model.tflite",)
    precisions = ("float32", "int8")

    def open(self, path: Path, precision: str, threads: int) -> Program:  # noqa: ARG002 - the file says the precision
        """An interpreter."""
        library = self.imported()
        try:
            return _Interpreter(library.Interpreter(model_path=str(path), num_threads=threads))
        except (ValueError, RuntimeError) as error:
            raise InvalidInput(f"LiteRT can't run it: {str(error).strip().splitlines()[0][:300]}") from error


class _Interpreter:
    """Inputs and outputs in integers are scaled as the file says, so that images are given in 0..1 always."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        inner.allocate_tensors()
        self.inputs = [_port(item) for item in inner.get_input_details()]
        self.outputs = [_port(item) for item in inner.get_output_details()]
        kinds = [np.dtype(item["dtype"]).name for item in inner.get_tensor_details()]
        self.integers = "int8" in kinds or "uint8" in kinds

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """The answers of one output."""
        (given,) = self._inner.get_input_details()
        try:
            if tuple(given["shape"]) != images.shape:
                self._inner.resize_tensor_input(given["index"], images.shape)
                self._inner.allocate_tensors()
            self._inner.set_tensor(given["index"], _quantised(images, given))
            self._inner.invoke()
        except (ValueError, RuntimeError) as error:
            raise InvalidInput(f"LiteRT fails: {str(error).strip().splitlines()[0][:300]}") from error
        made = next(item for item in self._inner.get_output_details() if item["name"] == output)
        answers: NDArray[Any] = self._inner.get_tensor(made["index"])
        scale, zero = made["quantization"]
        return (answers.astype(np.float32) - zero) * scale if scale else answers


def _quantised(images: NDArray[Any], given: dict[str, Any]) -> NDArray[Any]:
    scale, zero = given["quantization"]
    if not scale:
        return images
    kind = np.iinfo(given["dtype"])
    whole: NDArray[Any] = np.clip(np.rint(images / scale) + zero, kind.min, kind.max).astype(given["dtype"])
    return whole


def _port(item: dict[str, Any]) -> Port:
    sizes = tuple(None if size < 0 else int(size) for size in item["shape_signature"])
    return Port(item["name"], "float32" if item["quantization"][0] else np.dtype(item["dtype"]).name, sizes)
