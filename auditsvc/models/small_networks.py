"""Small classifiers, one for each topology that pruning must handle: plain, residual, depthwise, grouped, concatenated,
attention, split.

They train in seconds, so tests can verify each pruning method on each topology.  All take images
``(N, channels, H, W)`` in 0..1 and return logits ``(N, classes)``.

``TinyXception`` is a face-attribute network of 420 k parameters, rebuilt from its published weights:
depthwise-separable convolutions with folded batch normalisation. Its padding is TensorFlow's "same" rule (one more
row and column at the end), as in training; symmetric padding would lose accuracy without any error.

References: K. He et al. (2016), "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2 (the
CIFAR form of ``SmallResNet``); F. Chollet (2017), "Xception: Deep Learning with Depthwise Separable Convolutions",
arXiv:1610.02357; weights of ``TinyXception``: V. Mandic's face-api 1.7 (MIT).
"""

from __future__ import annotations

import math

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


class SmallCnn(nn.Module):
    """Grey images ``(N, 1, 28, 28)`` in 0..1 to logits ``(N, classes)``.

    Two convolutions, a pool, two more, a pool, and a linear head over the flattened map.
    """

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        if not (2 <= classes <= 10_000 and 1 <= width <= 1024):
            raise ValueError("classes must be 2 to 10000 and width 1 to 1024")
        self.features = nn.Sequential(
            *_block(1, width), *_block(width, width), nn.MaxPool2d(2),
            *_block(width, 2 * width), *_block(2 * width, 2 * width), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(2 * width * 49, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        logits: Tensor = self.head(torch.flatten(self.features(images), 1))
        return logits


def _block(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, features: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H/stride, W/stride)``."""
        deep = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(features)))))
        merged: Tensor = functional.relu(deep + self.shortcut(features))
        return merged


class SmallResNet(nn.Module):
    """Images ``(N, channels, H, W)`` in 0..1 to logits ``(N, classes)``; depth is ``6 * blocks + 2``."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16, blocks: int = 1) -> None:
        super().__init__()
        if not (2 <= classes <= 10_000 and 1 <= channels <= 16 and 1 <= width <= 512 and 1 <= blocks <= 50):
            raise ValueError("classes must be 2 to 10000, channels 1 to 16, width 1 to 512, blocks 1 to 50")
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        layers: list[nn.Module] = []
        inputs = width
        for stage, outputs in enumerate((width, 2 * width, 4 * width)):
            for place in range(blocks):
                layers.append(Block(inputs, outputs, 2 if stage and not place else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        features = self.blocks(functional.relu(self.norm(self.stem(images))))
        logits: Tensor = self.head(torch.flatten(functional.adaptive_avg_pool2d(features, 1), 1))
        return logits


def _unit(inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _pooled(features: Tensor) -> Tensor:
    return torch.flatten(functional.adaptive_avg_pool2d(features, 1), 1)


def _check(classes: int, channels: int, width: int) -> None:
    if not (2 <= classes <= 10_000 and 1 <= channels <= 16 and 8 <= width <= 512 and width % 8 == 0):
        raise ValueError("classes must be 2 to 10000, channels 1 to 16, width 8 to 512 in steps of 8")


class SmallMobile(nn.Module):
    """Depthwise: one filter for each channel, then a mix, as in MobileNet (arXiv:1704.04861)."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.features = nn.Sequential(
            _unit(channels, width, stride=2),
            _unit(width, width, groups=width), _unit(width, 2 * width, 1),
            _unit(2 * width, 2 * width, stride=2, groups=2 * width), _unit(2 * width, 4 * width, 1),
        )  # fmt: skip
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        logits: Tensor = self.head(_pooled(self.features(images)))
        return logits


class SmallGrouped(nn.Module):
    """Grouped: convolutions in four groups and a shortcut, as in ResNeXt (arXiv:1611.05431)."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.stem = _unit(channels, width, stride=2)
        self.reduce = _unit(width, 2 * width, 1)
        self.grouped = _unit(2 * width, 2 * width, groups=4)
        self.expand = nn.Sequential(nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width))
        self.last = _unit(width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        features = self.stem(images)
        features = functional.relu(features + self.expand(self.grouped(self.reduce(features))))
        logits: Tensor = self.head(_pooled(self.last(features)))
        return logits


class SmallConcat(nn.Module):
    """Concatenated: every layer sees all features before it, as in DenseNet (arXiv:1608.06993)."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.stem = _unit(channels, width, stride=2)
        self.first = _unit(width, width)
        self.second = _unit(2 * width, width)
        self.mix = _unit(3 * width, 2 * width, 1)
        self.last = _unit(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        features = self.stem(images)
        features = torch.cat((features, self.first(features)), 1)
        features = torch.cat((features, self.second(features)), 1)
        logits: Tensor = self.head(_pooled(self.last(self.mix(features))))
        return logits


class Attention(nn.Module):
    """Multi-head self-attention with its own projections; the scale is that of the unpruned head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / math.sqrt(width // heads)
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Keeps the shape ``(N, tokens, width)``."""
        q, k, v = (layer(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = torch.softmax(q @ k.transpose(2, 3) * self.scale, -1) @ v
        kept: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return kept


class SmallAttention(nn.Module):
    """Attention: patches as tokens, one pre-norm encoder block, as in ViT (arXiv:2010.11929); no position is added."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        _check(classes, channels, width)
        if not (1 <= heads <= width and width % heads == 0):
            raise ValueError("heads must divide the width")
        self.patches = nn.Conv2d(channels, width, 4, 4)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.down(functional.gelu(self.up(self.norm2(tokens))))
        logits: Tensor = self.head(self.norm3(tokens).mean(1))
        return logits


class SmallSplit(nn.Module):
    """Split: half of the channels take a detour, as in the C2f block of YOLOv8.

    Channels cannot be removed before the split without changing what each half means; pruning must leave that
    layer alone.
    """

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.stem = _unit(channels, width, stride=2)
        self.before = _unit(width, 2 * width, 1)
        self.detour = _unit(width, width)
        self.after = _unit(3 * width, 2 * width, 1)
        self.last = _unit(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        left, right = self.before(self.stem(images)).chunk(2, 1)
        joined = torch.cat((left, right, self.detour(right)), 1)
        logits: Tensor = self.head(_pooled(self.last(self.after(joined))))
        return logits


class SmallFixedView(nn.Module):
    """Fixed view: channel numbers written into the code, with a bare parameter behind them, as in channel shuffles.

    The layer in front of the view cannot be made narrower.
    """

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.width = width
        self.stem = _unit(channels, width, stride=2)
        self.before = _unit(width, 2 * width, 1)
        self.gain = nn.Parameter(torch.ones(1, 2, width, 1, 1))
        self.last = _unit(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, classes)``."""
        features = self.before(self.stem(images))
        size = features.shape[2:]
        mixed = (features.view(-1, 2, self.width, *size) * self.gain).transpose(1, 2)
        logits: Tensor = self.head(_pooled(self.last(mixed.reshape(-1, 2 * self.width, *size))))
        return logits


NETWORKS = {
    "tiny_xception": TinyXception,
    "small_attention": SmallAttention,
    "small_cnn": SmallCnn,
    "small_concat": SmallConcat,
    "small_fixed_view": SmallFixedView,
    "small_grouped": SmallGrouped,
    "small_mobile": SmallMobile,
    "small_resnet": SmallResNet,
    "small_split": SmallSplit,
}
