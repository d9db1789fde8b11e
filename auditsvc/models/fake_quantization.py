"""INT8 layers: weights stored as 8-bit integers, one scale for each output channel, inputs on one static grid.

The stored integers are the model.  Its answers are computed in float32 on exactly the values that the integers
represent, so it can be measured and attacked like any other (gradients pass straight through the rounding), and
it is exported as QuantizeLinear/DequantizeLinear pairs, which ONNX Runtime runs with integer kernels.

Reference: B. Jacob et al. (2018), "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from auditsvc.errors import Refused

SCALE = ".weight_scale"


class _Dequantize(torch.autograd.Function):
    """Integers times the scale of their output channel."""

    @staticmethod
    def forward(_context: Any, weight: Tensor, scale: Tensor) -> Tensor:
        return weight.float() * scale.view(-1, *(1,) * (weight.dim() - 1))

    @staticmethod
    def backward(_context: Any, *_gradients: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def symbolic(graph: Any, weight: Any, scale: Any) -> Any:
        zeros = graph.op("ConstantOfShape", graph.op("Shape", scale), value_t=torch.zeros(1, dtype=torch.int8))
        return graph.op("DequantizeLinear", weight, scale, zeros, axis_i=0)


class Int8Layer(nn.Module):
    """A convolution or linear layer whose weights are integers; made from the float layer that it replaces."""

    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor
    input_zero_point: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
            raise Refused(f"an INT8 convolution pads with zeros, not with {layer.padding_mode!r}")
        self.geometry: dict[str, Any] | None = None
        if isinstance(layer, nn.Conv2d):
            names = ("stride", "padding", "dilation", "groups")
            self.geometry = {name: getattr(layer, name) for name in names}
        self.register_buffer("weight", torch.zeros(layer.weight.shape, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(layer.weight.shape[0]))
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("input_zero_point", torch.zeros((), dtype=torch.int32))
        self.bias = None if layer.bias is None else nn.Parameter(torch.zeros(layer.bias.shape))

    def forward(self, inputs: Tensor) -> Tensor:
        """What the float layer gives, on rounded inputs and weights."""
        rounded = inputs if inputs.is_meta else self._rounded(inputs)  # on "meta", MACs are counted without numbers
        weight: Tensor = _Dequantize.apply(self.weight, self.weight_scale)  # type: ignore[no-untyped-call]
        if self.geometry is None:
            return nn.functional.linear(rounded, weight, self.bias)
        return nn.functional.conv2d(rounded, weight, self.bias, **self.geometry)

    def _rounded(self, inputs: Tensor) -> Tensor:
        scale, zero = float(self.input_scale), int(self.input_zero_point)
        return torch.fake_quantize_per_tensor_affine(inputs, scale, zero, 0, 255)


def is_int8(module: nn.Module) -> bool:
    """Whether any layer has integer weights."""
    return any(isinstance(layer, Int8Layer) for layer in module.modules())


def install_int8(module: nn.Module, names: Iterable[str]) -> None:
    """Replace each layer whose weights come with a scale by its INT8 form, values not yet loaded.

    Raises:
        Refused: a scale for something that is no convolution or linear layer.
    """
    for path in [name.removesuffix(SCALE) for name in names if name.endswith(SCALE)]:
        owner, _, last = path.rpartition(".")
        try:
            layer = module.get_submodule(path)
        except AttributeError as error:
            raise Refused(f"{path}{SCALE} belongs to no layer of the architecture") from error
        if isinstance(layer, nn.Conv2d | nn.Linear):
            setattr(module.get_submodule(owner), last, Int8Layer(layer))
        elif not isinstance(layer, Int8Layer):
            raise Refused(f"{path} is a {type(layer).__name__}; only convolutions and linear layers can be INT8")
