"""Faster copies of a model whose rounding never decides an answer.

Attacks query a model thousands of times per image: they use a copy with batch normalisation folded into the
convolutions, and the original model verifies what they find.  Long runs use a copy in ONNX Runtime, and the original
model recomputes every answer that rounding could change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models import Model
from auditsvc.models.fake_quantization import is_int8
from auditsvc.models.model import decoded
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.runtimes.onnxruntime import session

CLOSE = 1e-3
"""Two best outputs nearer than this, relative to the larger, are too close for a copy to decide."""

LEAST = 32
"""The smallest batch on an accelerator."""

Outputs = Callable[[Tensor], Tensor]


def fold_batchnorm(model: Model) -> Outputs:
    """The fused model, or the model itself where its class can't be traced or fusing moves an output.

    Of a file that a runtime runs it is the layers that the file was converted to.
    Moved means: by more than 1e-4 of the largest output, on images of noise.  An accelerator runs ``in_steps``.
    """
    device = next((tensor.device for tensor in model.module.state_dict().values()), torch.device("cpu"))
    quick = _fused(model, device)
    return quick if device.type == "cpu" else in_steps(quick)


def _fused(model: Model, device: torch.device) -> Outputs:
    model = model.layers
    try:
        graph = fx.symbolic_trace(model.module)
        copy = Model(fuse(graph), model.card) if not hasattr(model.module, "outputs") else model
    except (TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError):
        return model
    spec = model.card.input
    noise = torch.rand(2, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = model(noise.to(device)), copy(noise.to(device))
    near = torch.allclose(expected, found, rtol=0, atol=1e-4 * float(expected.abs().max().clamp(min=1)))
    return copy if near else model


def in_steps(outputs: Outputs) -> Outputs:
    """The same outputs, with each batch filled up to a power of two by its last image.

    An accelerator's libraries plan every new batch size anew, a tenth of a second each; the batches of an attack shrink
    image by image, so that planning would be most of its time.
    """

    def filled(images: Tensor) -> Tensor:
        size = len(images)
        missing = (1 << max(size - 1, LEAST - 1).bit_length()) - size
        if size == 0 or missing == 0:
            return outputs(images)
        filler = images[-1:].detach().expand(missing, -1, -1, -1)
        return outputs(torch.cat((images, filler)))[:size]

    return filled


@dataclass(frozen=True)
class CompiledModel:
    """A copy in ONNX Runtime, and the model that recomputes every answer that rounding could change."""

    model: Model
    copy: Outputs

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs of ``(N, C, H, W)``; rows whose two best are within ``CLOSE`` of each other are the model's own."""
        outputs = self.copy(images)
        best = outputs.topk(2, dim=1).values
        close = best[:, 0] - best[:, 1] <= CLOSE * best[:, 0].abs().clamp(min=1)
        if bool(close.any()):
            outputs[close] = self.model(images[close])
        return outputs


@dataclass(frozen=True)
class Queried:
    """What an attack queries: ``layers`` where it needs a gradient, ``answers`` where it does not."""

    layers: Outputs
    answers: Outputs

    def __call__(self, images: Tensor) -> Tensor:
        """The outputs, with a gradient."""
        return self.layers(images)


def compile_model(model: Model, sample: Tensor) -> Outputs:
    """The model in ONNX Runtime, or itself where that is not safe or not a CPU.

    Only class outputs of layers in floats; the copy must agree with the model on the sample to a tenth of what
    ``CLOSE`` allows.  ``sample``: ``(N, C, H, W)`` in 0..1.
    """
    if sample.device.type != "cpu" or hasattr(model.module, "layers_for") or is_int8(model.module):
        return model
    if _branches_on_values(model, sample):
        return model
    with torch.no_grad():
        expected = model(sample)
        if expected.dim() != 2 or expected.shape[1] < 2:
            return model
        try:
            running = session(onnx_bytes(model, sample), torch.get_num_threads())
        except (Refused, InvalidInput):
            return model

        def copy(images: Tensor) -> Tensor:
            given = model.fitted(images).contiguous().numpy()
            return decoded(torch.from_numpy(running.run(given, "outputs")), model.card, images.shape[-2:])

        near = torch.allclose(
            expected, copy(sample), rtol=0, atol=CLOSE / 10 * float(expected.abs().max().clamp(min=1))
        )
    return CompiledModel(model, copy) if near else model


def _branches_on_values(model: Model, sample: Tensor) -> bool:
    """Whether the model asks for the value of a tensor, so that a trace would hold for the traced images alone."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            model(mode.from_tensor(sample))
    except (DataDependentOutputException, DynamicOutputShapeException, RuntimeError, TypeError, ValueError):
        return True
    return False
