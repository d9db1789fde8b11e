"""Faster copies of a model whose rounding never decides an answer.

Attacks query a model thousands of times per image: they use a copy with batch normalisation folded into the
convolutions, and the original model verifies what they find.  Long runs over large data sets use a compiled copy, and
the original model recomputes every answer that rounding could change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from auditsvc.models import Model

CLOSE = 1e-3
"""Two best outputs nearer than this, relative to the larger, are too close for a copy to decide."""

LEAST = 32
"""The smallest batch on an accelerator."""

Outputs = Callable[[Tensor], Tensor]

_WARM = 3
"""Runs until the compiler has settled."""


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
    """A compiled copy, and the model that recomputes every answer that rounding could change."""

    model: Model
    copy: Outputs

    def __call__(self, images: Tensor) -> Tensor:
        """Outputs of ``(N, C, H, W)``; rows whose two best are within ``CLOSE`` of each other are the model's own."""
        outputs = self.copy(images.contiguous(memory_format=torch.channels_last))
        best = outputs.topk(2, dim=1).values
        close = best[:, 0] - best[:, 1] <= CLOSE * best[:, 0].abs().clamp(min=1)
        if bool(close.any()):
            outputs = outputs.clone()
            outputs[close] = self.model(images[close])
        return outputs


def compile_model(model: Model, sample: Tensor) -> Outputs:
    """The model compiled for batches like ``sample``, or itself where that is not safe or not a CPU.

    Only modules without data-dependent branches are compiled (tracing them symbolically would fail), and only
    class outputs; the copy must agree with the model on the sample to a tenth of what ``CLOSE`` allows.
    """
    if sample.device.type != "cpu" or hasattr(model.module, "outputs") or hasattr(model.module, "layers_for"):
        return model
    shaped = sample.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = model(sample)
        if expected.dim() != 2 or expected.shape[1] < 2:
            return model
        try:
            graph = Model(fx.symbolic_trace(model.module), model.card).module
            torch.jit.enable_onednn_fusion(True)
            copy = torch.jit.freeze(torch.jit.trace(graph.eval(), shaped, check_trace=False))  # type: ignore[no-untyped-call]
            for _ in range(_WARM):
                found = copy(shaped)
        except (TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError):
            return model
        finally:
            torch.jit.enable_onednn_fusion(False)
    near = torch.allclose(expected, found, rtol=0, atol=CLOSE / 10 * float(expected.abs().max().clamp(min=1)))
    return CompiledModel(model, copy) if near else model
