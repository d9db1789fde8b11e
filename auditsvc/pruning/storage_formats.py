"""Other number formats: INT8 with static ranges, and half precision.

INT8 makes the file about four times smaller; whether it is faster depends on the machine, so it is measured and
never claimed.  Half precision is a storage format here: the model still computes in float32, on the rounded weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.models.fake_quantization import SCALE

FORMATS = ("int8", "float16", "bfloat16")
CALIBRATION_IMAGES, BATCH = 512, 64
_SMALLEST = 1e-8
LARGEST = 64
"""The largest weight.  CPUs without VNNI add two products of an unsigned input and a signed weight in 16 bits, which
saturate at 32767: 255 * (64 + 64) fits whatever the inputs are, 255 * (127 + 127) does not (``reduce_range``)."""


def in_format(model: Model, number_format: str, data: Dataset | None, seed: int = 0) -> dict[str, Tensor]:
    """The model's tensors in this number format: what is saved.

    ``data`` is needed for ``int8``: unlabelled images on which the range of every layer's input is read.

    Raises:
        InvalidInput: an unknown format, ``int8`` without images, or weights that float16 can't hold.
    """
    if number_format == "int8":
        if data is None:
            raise InvalidInput("int8 needs images for the ranges: give the recipe the digest of a data set")
        return _int8(model, data, seed)
    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if number_format not in kinds:
        raise InvalidInput(f"no number format {number_format!r}; known: {', '.join(FORMATS)}")
    kind = kinds[number_format]
    halved = {
        name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in model.weights().items()
    }
    lost = [name for name, tensor in halved.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if lost:
        raise InvalidInput(f"{number_format} can't hold the numbers of {', '.join(lost)}; bfloat16 can")
    return halved


def _int8(model: Model, data: Dataset, seed: int) -> dict[str, Tensor]:
    layers = {
        path: layer
        for path, layer in model.module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and getattr(layer, "padding_mode", "zeros") == "zeros"
    }
    ranges = _input_ranges(model, layers, data, seed)
    weights = model.weights()
    for path in layers:
        low, high = ranges.get(path, (0.0, 0.0))
        step = max((high - low) / 255, _SMALLEST)
        weights |= _rounded(path, weights[f"{path}.weight"])
        weights[f"{path}.input_scale"] = torch.tensor(step)
        weights[f"{path}.input_zero_point"] = torch.tensor(round(-low / step), dtype=torch.int32)
    return weights


def _rounded(path: str, weight: Tensor) -> dict[str, Tensor]:
    """The weight as integers of 7 bits, with one scale for each output channel."""
    scale = (weight.flatten(1).abs().amax(1) / LARGEST).clamp_min(_SMALLEST)
    rounded = torch.round(weight / scale.view(-1, *(1,) * (weight.dim() - 1)))
    whole = rounded.clamp(-LARGEST, LARGEST).to(torch.int8).contiguous()
    return {f"{path}.weight": whole, f"{path}{SCALE}": scale}


def in_float(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Saved tensors as the float weights that they represent, without those of the number format alone."""
    paths = [name.removesuffix(SCALE) for name in saved if name.endswith(SCALE)]
    own = {f"{path}.{name}" for path in paths for name in ("weight_scale", "input_scale", "input_zero_point")}
    floats = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in saved.items()
        if name not in own
    }
    for path in paths:
        whole = saved[f"{path}.weight"]
        floats[f"{path}.weight"] = whole.float() * saved[f"{path}{SCALE}"].view(-1, *(1,) * (whole.dim() - 1))
    return floats


def in_format_of(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float weights in the number format in which those of a near relative are saved; the ranges are the relative's."""
    paths = [name.removesuffix(SCALE) for name in saved if name.endswith(SCALE)]
    formed = {
        name: tensor.to(saved[name].dtype) if name in saved and tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    for path in paths:
        formed |= _rounded(path, weights[f"{path}.weight"])
        formed |= {name: saved[name] for name in (f"{path}.input_scale", f"{path}.input_zero_point")}
    return formed


def _input_ranges(
    model: Model, layers: dict[str, nn.Conv2d | nn.Linear], data: Dataset, seed: int
) -> dict[str, tuple[float, float]]:
    """The smallest and largest input of each layer on the calibration images; zero is always inside."""
    ranges: dict[str, tuple[float, float]] = {}

    def watch(path: str) -> Any:
        def seen(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = ranges.get(path, (0.0, 0.0))
            ranges[path] = (min(low, float(inputs[0].min())), max(high, float(inputs[0].max())))

        return seen

    hooks = [layer.register_forward_pre_hook(watch(path)) for path, layer in layers.items()]
    number = min(CALIBRATION_IMAGES, data.ref.images)
    chosen = np.sort(np.random.default_rng(seed).permutation(data.ref.images)[:number]).astype(np.int64)
    try:
        with torch.inference_mode():
            for batch in data.batches(BATCH, chosen):
                model(batch.images)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges
