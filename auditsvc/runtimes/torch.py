"""Torch on the CPU: a model folder, in the precision of its weights or in half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from auditsvc.errors import InvalidInput
from auditsvc.runtimes.runtime import Port, Program, Runtime


class Torch(Runtime):
    """Runs ``model.safetensors`` with its ``architecture.json``."""

    id, distribution, library = "torch", "torch", "torch"
    files = ("model.safetensors",)
    precisions = ("float32", "int8", "bfloat16", "float16")

    def open(self, path: Path, precision: str, threads: int) -> Program:
        """The model of the file's folder; its class must be one that auditsvc builds."""
        self.imported().set_num_threads(threads)
        return _Module(path.parent, precision)


class _Module:
    """Half precision means that weights and activations are rounded, as ``module.half()`` does."""

    def __init__(self, folder: Path, precision: str) -> None:
        import torch

        from auditsvc.models import load_model
        from auditsvc.models.fake_quantization import is_int8

        self._torch, self._model = torch, load_model(folder)
        self._kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
        self._model.module.to(self._kind)
        self.integers, spec = is_int8(self._model.module), self._model.card.input
        self.inputs = [Port("images", "float32", (None, spec.channels, spec.height, spec.width))]
        self.outputs = [Port("outputs", "float32", (None,))]

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:  # noqa: ARG002 - the audited one
        """The answers of the audited output."""
        try:
            with self._torch.inference_mode():
                answers = self._model.raw(self._torch.from_numpy(images).to(self._kind))
        except RuntimeError as error:
            raise InvalidInput(f"torch fails: {str(error).splitlines()[0][:300]}") from error
        found: NDArray[Any] = answers.float().numpy()
        return found
