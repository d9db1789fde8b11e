"""ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from auditsvc.errors import InvalidInput
from auditsvc.runtimes.runtime import JOIN, Port, Program, Runtime, joined

_NUMPY = {"float": "float32", "double": "float64"}
_INTEGER = ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


class OnnxRuntime(Runtime):
    """Runs ``model.onnx``; an INT8 file with integer kernels."""

    id, distribution, library = "onnxruntime", "onnxruntime", "onnxruntime"
    files = ("model.onnx",)
    precisions = ("float32", "int8")

    def open(self, path: Path, precision: str, threads: int) -> Program:  # noqa: ARG002 - the file says the precision
        """A session with all optimisations."""
        return session(path, threads)


class Session:
    """A session; what ONNX Runtime raises shares no base class, so it is translated here."""

    def __init__(self, inner: Any, errors: tuple[type[Exception], ...], integers: bool) -> None:
        self._inner, self._errors, self.integers = inner, errors, integers
        self.inputs = [_port(item) for item in inner.get_inputs()]
        self._single = len(self.inputs) == 1 and len(self.inputs[0].shape) == 3
        if self._single:  # one image without a batch, as torchvision exports its detectors
            self.inputs = [replace(self.inputs[0], shape=(1, *self.inputs[0].shape))]
        self.outputs = [_port(item) for item in inner.get_outputs()]
        self.metadata = dict(inner.get_modelmeta().custom_metadata_map)

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """The answers of one output, or of several whose names are joined by ``+`` (``joined``)."""
        if output in (port.name for port in self.outputs) or JOIN not in output:
            return self.values(images, [output])[0]
        return joined(self.values(images, output.split(JOIN)))

    def values(self, images: NDArray[Any], names: list[str]) -> list[NDArray[Any]]:
        """The answers of several outputs."""
        try:
            given = images[0] if self._single else images
            return cast(list[NDArray[Any]], self._inner.run(names, {self.inputs[0].name: given}))
        except self._errors as error:
            raise InvalidInput(f"ONNX Runtime fails: {str(error).splitlines()[0][:300]}") from error


def session(source: Path | bytes, threads: int = 1, *, optimise: bool = True) -> Session:
    """A session on a file or its bytes.

    Raises:
        InvalidInput: a graph that ONNX Runtime can't run, in its words.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    errors: tuple[type[Exception], ...] = (*kinds, RuntimeError, ValueError)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    if threads > 1:  # waiting threads sleep: others may need the cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        inner = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise InvalidInput(f"ONNX Runtime can't run it: {str(error).splitlines()[0][:300]}") from error
    return Session(inner, errors, any(name.encode() in data for name in _INTEGER))


def _port(item: Any) -> Port:
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in item.shape or ())
    kind = item.type.removeprefix("tensor(").removesuffix(")")
    return Port(item.name, _NUMPY.get(kind, kind), sizes)
