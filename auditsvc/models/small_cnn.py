"""SmallCnn: a plain convolutional network with batch normalisation, trained in seconds on small grey images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
