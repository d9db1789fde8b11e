"""SmallResNet: the CIFAR form of a residual network, for small images of any number of channels.

Reference: K. He et al. (2016), "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

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
