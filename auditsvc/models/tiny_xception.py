"""TinyXception: a face-attribute network of 420 k parameters, rebuilt from its weights.

Depthwise-separable convolutions as in Xception, with folded batch normalisation.  A class, unlike an exporter's graph,
can be pruned, attacked and watermarked.  Padding is TensorFlow's "same" rule (one more row and column at the end), as
in training; symmetric padding would lose accuracy without any error.

Reference: F. Chollet (2017), "Xception: Deep Learning with Depthwise Separable Convolutions", arXiv:1610.02357.
Weights: V. Mandic's face-api 1.7 (MIT).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad_same(images: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad ``(N, C, H, W)`` so that a strided window gives ``ceil(size / stride)`` outputs."""
    height, width = images.shape[-2], images.shape[-1]
    rows = max((-(-height // stride) - 1) * stride + kernel - height, 0)
    columns = max((-(-width // stride) - 1) * stride + kernel - width, 0)
    edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return functional.pad(images, edges, value=value) if any(edges) else images


class Separable(nn.Module):
    """One 3x3 filter per channel, then a 1x1 mix of the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pw = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""
        mixed: Tensor = self.pw(self.dw(features))
        return mixed


class Reduction(nn.Module):
    """Two separable convolutions, halved in size, and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, *, activate_input: bool = True) -> None:
        super().__init__()
        self.s0 = Separable(inputs, outputs)
        self.s1 = Separable(outputs, outputs)
        self.exp = nn.Conv2d(inputs, outputs, 1, stride=2)
        self.activate_input = activate_input

    def forward(self, features: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H/2), ceil(W/2))``."""
        entered = functional.relu(features) if self.activate_input else features
        deep = self.s1(functional.relu(self.s0(entered)))
        deep = functional.max_pool2d(pad_same(deep, 3, 2, float("-inf")), 3, 2)
        merged: Tensor = deep + self.exp(features)
        return merged


class Main(nn.Module):
    """Three separable convolutions around an identity shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.s0 = Separable(channels, channels)
        self.s1 = Separable(channels, channels)
        self.s2 = Separable(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the shape ``(N, channels, H, W)``."""
        deep = self.s0(functional.relu(features))
        deep = self.s1(functional.relu(deep))
        deep = self.s2(functional.relu(deep))
        merged: Tensor = features + deep
        return merged


class Trunk(nn.Module):
    """All layers; kept apart so that the tensors have the names they were published under."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 32, 3, stride=2)
        self.r0 = Reduction(32, 64, activate_input=False)
        self.r1 = Reduction(64, 128)
        self.m0 = Main(128)
        self.m1 = Main(128)
        self.r2 = Reduction(128, 256)
        self.sep = Separable(256, 512)
        self.age = nn.Linear(512, 1)
        self.gender = nn.Linear(512, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, 3, 112, 112)`` to age ``(N, 1)`` in years and gender logits ``(N, 2)``."""
        features = functional.relu(self.conv_in(pad_same(images, 3, 2)))
        features = self.m1(self.m0(self.r1(self.r0(features))))
        features = functional.relu(self.sep(self.r2(features)))
        pooled = torch.flatten(functional.avg_pool2d(features, 7, 2), 1)
        return self.age(pooled), self.gender(pooled)


class TinyXception(nn.Module):
    """RGB images in 0..1, ``(N, 3, 112, 112)``, to age in years and gender logits (male, female).

    The training mean is subtracted inside, so the attack and the lighting checks work in
    the image's own units.
    """

    outputs = ("age", "gender")

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.n = Trunk()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Age ``(N, 1)`` in years and gender logits ``(N, 2)``."""
        answers: tuple[Tensor, Tensor] = self.n(images - self.mean)
        return answers


NETWORKS = {"tiny_xception": TinyXception}
