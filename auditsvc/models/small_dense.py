"""Small networks for dense tasks: one for detection, one for segmentation, one for text recognition.

They are fully convolutional, train in minutes on a CPU, and serve the tests and the demo.

References: Z. Tian et al. (2019), "FCOS: Fully Convolutional One-Stage Object Detection", arXiv:1904.01355;
O. Ronneberger et al. (2015), "U-Net", arXiv:1505.04597; B. Shi et al. (2015), "An End-to-End Trainable Neural Network
for Image-based Sequence Recognition", arXiv:1507.05717 (without its recurrent layers).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def _unit(inputs: int, outputs: int, *, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _check(classes: int, channels: int, width: int, *sides: int) -> None:
    if not (1 <= classes <= 10_000 and 1 <= channels <= 16 and 4 <= width <= 512):
        raise ValueError("classes must be 1 to 10000, channels 1 to 16, width 4 to 512")
    if any(side % 8 or not 16 <= side <= 2048 for side in sides):
        raise ValueError("the image's sides must be 16 to 2048 in steps of 8")


class _Pyramid(nn.Module):
    """Down to an eighth of the image, and up again to a quarter, with skip connections."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(_unit(channels, width, stride=2), _unit(width, 2 * width, stride=2))
        self.coarse = nn.Sequential(_unit(2 * width, 4 * width, stride=2), _unit(4 * width, 4 * width))
        self.merged = _unit(6 * width, 4 * width)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to ``(N, 4 * width, H/4, W/4)``."""
        fine = self.fine(images)
        coarse = functional.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        merged: Tensor = self.merged(torch.cat((fine, coarse), dim=1))
        return merged


class SmallDetector(nn.Module):
    """For every fourth pixel, the confidence that it is at the centre of an object of each class, and how far away
    its four sides are.  The layout is ``boxes``: ``(N, A, 4 + classes)``, A = H/4 * W/4."""

    STRIDE = 4
    centres: Tensor
    size: Tensor

    def __init__(
        self, classes: int = 1, channels: int = 3, width: int = 8, height: int = 120, breadth: int = 160
    ) -> None:
        super().__init__()
        _check(classes, channels, width, height, breadth)
        self.classes = classes
        self.features = _Pyramid(channels, width)
        self.tower = _unit(4 * width, 4 * width)
        self.head = nn.Conv2d(4 * width, 4 + classes, 1)
        bias = torch.cat((torch.zeros(4), torch.full((classes,), -4.0)))
        self.head.bias = nn.Parameter(bias)
        rows, columns = torch.meshgrid(
            torch.arange(height // self.STRIDE), torch.arange(breadth // self.STRIDE), indexing="ij"
        )
        places = torch.stack((columns.flatten(), rows.flatten()), dim=1).float()
        self.register_buffer("centres", (places + 0.5) * self.STRIDE)
        self.register_buffer("size", torch.tensor([breadth, height], dtype=torch.float32))

    def raw(self, images: Tensor) -> Tensor:
        """``(N, A, 4 + classes)``: the logarithms of the distances to the four sides, in strides; logits of classes."""
        found: Tensor = self.head(self.tower(self.features(images)))
        return found.flatten(2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Corners in shares of the image, and confidences."""
        raw = self.raw(images)
        away = raw[..., :4].clamp(-4.0, 6.0).exp() * self.STRIDE
        first, last = (self.centres - away[..., :2]) / self.size, (self.centres + away[..., 2:]) / self.size
        return torch.cat((first, last, raw[..., 4:].sigmoid()), dim=2)


class SmallSegmenter(nn.Module):
    """Images ``(N, channels, H, W)`` to logits ``(N, classes, H, W)``; sides in steps of 8."""

    def __init__(self, classes: int = 2, channels: int = 3, width: int = 8) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.near = _unit(channels, width)
        self.features = _Pyramid(channels, width)
        self.middle = _unit(5 * width, 2 * width)
        self.head = nn.Conv2d(2 * width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every pixel."""
        wide = functional.interpolate(self.features(images), scale_factor=4.0, mode="nearest")
        logits: Tensor = self.head(self.middle(torch.cat((self.near(images), wide), dim=1)))
        return logits


class SmallReader(nn.Module):
    """A line of text ``(N, channels, H, W)`` to logits ``(N, W/4, classes + 1)``, the last for nothing (``ctc``)."""

    def __init__(self, classes: int = 36, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        _check(classes, channels, width)
        self.features = nn.Sequential(
            _unit(channels, width, stride=2),
            _unit(width, 2 * width, stride=2),
            _unit(2 * width, 4 * width, stride=(2, 1)),
            _unit(4 * width, 4 * width, stride=(2, 1)),
        )
        self.head = nn.Conv1d(4 * width, classes + 1, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits step by step, from left to right."""
        logits: Tensor = self.head(self.features(images).mean(dim=2)).transpose(1, 2)
        return logits


NETWORKS = {"small_detector": SmallDetector, "small_reader": SmallReader, "small_segmenter": SmallSegmenter}
