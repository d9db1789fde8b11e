"""ONNX export, verified: ONNX Runtime must give the same answers as the model before the file is returned."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models.fake_quantization import is_int8
from auditsvc.models.model import Model
from auditsvc.runtimes.onnxruntime import Session, session

OPSET = 17
TOLERANCE = 1e-4
"""The largest difference to torch, for outputs of size 1; larger outputs may differ in proportion."""
INT8_AGREEMENT = 0.98
"""The share of images whose first answer must agree for INT8, where one rounding step may fall to either side."""


class _Audited(nn.Module):
    """The audited output alone, as an exporter wants it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.inner = model.module
        self._model = model

    def forward(self, images: Tensor) -> Tensor:
        return self._model.audited(self.inner(images))


def onnx_bytes(model: Model, images: Tensor) -> bytes:
    """The model as ONNX for images of the network's size in 0..1 (the rest of the preprocessing is its first
    operations), any batch size, compared with ONNX Runtime on these images at two batch sizes.

    Raises:
        Refused: the graph can't be written, or ONNX Runtime answers otherwise; with every reason.
    """
    data = _export(model, images)
    reasons = compare_onnx(data, model, images)
    if reasons:
        raise Refused(f"{model.card.architecture} can't be handed out as ONNX", reasons)
    return data


def _export(model: Model, images: Tensor) -> bytes:
    buffer: Any = io.BytesIO()
    options: dict[str, Any] = {
        "dynamo": False,
        "opset_version": OPSET,
        "input_names": ["images"],
        "output_names": ["outputs"],
        "dynamic_axes": {"images": {0: "batch"}, "outputs": {0: "batch"}},
    }
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            torch.onnx.export(_Audited(model).eval(), (model.fitted(images[:2]),), buffer, **options)
    except (RuntimeError, ValueError, torch.onnx.errors.OnnxExporterError) as error:
        line = str(error).strip().splitlines()[0][:300]
        raise Refused(f"{model.card.architecture} can't be written as ONNX: {line}") from error
    data: bytes = buffer.getvalue()
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints the whole graph when it fails; the error says enough."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def compare_onnx(data: bytes, model: Model, images: Tensor) -> tuple[str, ...]:
    """Every way in which ONNX Runtime's answers are not the model's; none means they are the same."""
    running = session(data)
    return tuple(
        reason for size in (len(images), (len(images) + 1) // 2) for reason in _differs(running, model, images[:size])
    )


def _differs(running: Session, model: Model, images: Tensor) -> list[str]:
    with torch.inference_mode():
        wanted = model.raw(images).numpy()
    try:
        found = running.run(model.fitted(images).contiguous().numpy(), "outputs")
    except InvalidInput as error:
        return [f"batch of {len(images)}: {error}"]
    if wanted.shape != found.shape:
        return [f"batch of {len(images)}: ONNX Runtime gives {found.shape}, torch {wanted.shape}"]
    if not np.isfinite(found).all():
        return [f"batch of {len(images)}: ONNX Runtime gives NaN or infinity"]
    if is_int8(model.module):
        agreeing = float((wanted.argmax(1) == found.argmax(1)).mean())
        return [] if agreeing >= INT8_AGREEMENT else [f"batch of {len(images)}: only {agreeing:.0%} answers agree"]
    gap, size = float(np.abs(wanted - found).max()), max(1.0, float(np.abs(wanted).max()))
    return [] if gap <= TOLERANCE * size else [f"batch of {len(images)}: outputs differ by {gap:.3g}"]
