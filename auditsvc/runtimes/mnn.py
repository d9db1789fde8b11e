"""MNN on the CPU.

Its package prints to the standard output, and its module ``MNN.tools.utils`` installs packages when it is imported: the
converter is therefore called in its extension module alone.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.errors import InvalidInput
from auditsvc.runtimes.runtime import Port, Program, Runtime


class Mnn(Runtime):
    """Runs ``model.mnn``; ``float32`` is its precision ``high``, ``float16`` its ``low`` (32 bits on x86)."""

    id, distribution, library = "mnn", "MNN", "MNN"
    files = ("model.mnn",)
    precisions = ("float32", "float16")

    def open(self, path: Path, precision: str, threads: int) -> Program:
        """A session of one interpreter."""
        mnn = self.imported()
        inner = mnn.Interpreter(str(path))
        level = "high" if precision == "float32" else "low"
        session = inner.createSession({"backend": "CPU", "numThread": threads, "precision": level})
        if session is None or not inner.getSessionInputAll(session):
            raise InvalidInput(f"MNN can't run {path.name}")
        return _Session(mnn, inner, session)

    def convert(self, onnx: Path, folder: Path) -> tuple[Path, ...]:
        """The file that MNN's converter makes."""
        self.imported()
        made = folder / "model.mnn"
        words = ["-f", "ONNX", "--modelFile", str(onnx), "--MNNModel", str(made), "--bizCode", "auditsvc"]
        importlib.import_module("_tools").mnnconvert(["mnnconvert", *words])
        if not made.is_file():
            raise InvalidInput("MNN's converter can't convert this graph")
        return (made,)


class _Session:
    integers = False

    def __init__(self, mnn: Any, inner: Any, session: Any) -> None:
        self._mnn, self._inner, self._session = mnn, inner, session
        self._batch = 0
        self.inputs = [_port(name, item) for name, item in inner.getSessionInputAll(session).items()]
        self.outputs = [_port(name, item) for name, item in inner.getSessionOutputAll(session).items()]

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """The answers of one output."""
        mnn, given = self._mnn, self._inner.getSessionInput(self._session, self.inputs[0].name)
        if len(images) != self._batch:
            self._inner.resizeTensor(given, images.shape)
            self._inner.resizeSession(self._session)
            self._batch = len(images)
        layout = given.getDimensionType()
        given.copyFrom(mnn.Tensor(images.shape, mnn.Halide_Type_Float, images, layout))
        self._inner.runSession(self._session)
        made = self._inner.getSessionOutput(self._session, output)
        host = np.zeros(made.getShape(), np.float32)
        kept = mnn.Tensor(made.getShape(), mnn.Halide_Type_Float, host, mnn.Tensor_DimensionType_Caffe)
        made.copyToHostTensor(kept)
        return np.array(kept.getNumpyData()).reshape(made.getShape())


def _port(name: str, item: Any) -> Port:
    return Port(name, "float32", (None, *item.getShape()[1:]))
