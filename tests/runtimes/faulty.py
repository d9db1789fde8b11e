"""A small network whose answers are known, and six files that a faulty conversion makes of it."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.datasets import Dataset
from auditsvc.models import Model
from tests.fakes.models import array_dataset, as_model

SIZE = 12


class Exact(nn.Module):
    """Says ``bright`` where a weighted mean of the resized image is over its threshold; every fault moves that."""

    def __init__(self) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(5)
        weights = torch.randint(-127, 128, (1, 3, 6, 6), generator=noise).float()
        weights[0, 0] = weights[0, 0].abs() * 0.3 + 88  # two neighbours at full range exceed 16 bits
        self.register_buffer("weights", weights / 127)

    def seen(self, images: Tensor) -> Tensor:
        return functional.interpolate(images, size=(6, 6), mode="bilinear", align_corners=False)

    def total(self, images: Tensor) -> Tensor:
        return (self.seen(images) * self.weights).sum((1, 2, 3))

    def forward(self, images: Tensor) -> Tensor:
        over = self.total(images) - THRESHOLD
        return torch.stack((-over, over), dim=1)


THRESHOLD = 24.0


class LayoutSwap(Exact):
    """Channels last are read as channels first."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 2, 3, 1).reshape(-1, 3, SIZE, SIZE))


class BgrSwap(Exact):
    """Blue comes first."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.stack((images[:, 2], images[:, 1], images[:, 0]), dim=1))


class OtherResize(Exact):
    """The nearest pixel instead of the mean of four."""

    def seen(self, images: Tensor) -> Tensor:
        return images[:, :, ::2, ::2]


class BatchDependent(Exact):
    """Each image is compared with the mean of its batch."""

    def total(self, images: Tensor) -> Tensor:
        found = super().total(images)
        return found - found.mean() + THRESHOLD


class HalfOverflow(Exact):
    """Sums of pixels in 0..255 as half precision holds them: infinite over 65504."""

    def total(self, images: Tensor) -> Tensor:
        found = (self.seen(images) * 255 * (self.weights * 127)).abs().sum((1, 2, 3))
        halves = torch.where(found > 65504, torch.full_like(found, float("inf")), found)
        return halves * 0 + super().total(images)


class Saturation(Exact):
    """U8S8 on AVX2 (vpmaddubsw): the sum of two products saturates at 16 bits."""

    def total(self, images: Tensor) -> Tensor:
        products = torch.round(self.seen(images) * 255) * (self.weights * 127)
        pairs = products.flatten(1).reshape(-1, 54, 2).sum(2).clamp(-32768, 32767)
        return pairs.sum(1) / (255 * 127)


FAULTS: dict[str, type[Exact]] = {
    "layout swap": LayoutSwap, "bgr swap": BgrSwap, "other resize": OtherResize, "batch dependent": BatchDependent,
    "half overflow": HalfOverflow, "u8s8 saturation": Saturation,
}  # fmt: skip


def exact() -> Model:
    return as_model(Exact(), (3, SIZE, SIZE))


def images(number: int = 80) -> Dataset:
    """Bright images in which every fault shows, labelled as the exact network answers; two cameras."""
    chance = torch.Generator().manual_seed(1)
    pixels = torch.rand(number, 3, SIZE, SIZE, generator=chance) * torch.linspace(0.2, 1.0, number).view(-1, 1, 1, 1)
    pixels[:, 0] = pixels[:, 0] * 0.2 + torch.linspace(0.5, 0.85, number).view(-1, 1, 1)
    pixels[:, :, ::2, ::2] *= 0.9
    labels = Exact()(pixels).argmax(1).numpy()
    return array_dataset(pixels, labels, {"camera": np.where(np.arange(number) % 2, "a", "b").tolist()})


def as_onnx(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    axes = {"images": {0: "batch"}, "outputs": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (torch.rand(2, 3, SIZE, SIZE),), buffer, dynamo=False, opset_version=17,
                          input_names=["images"], output_names=["outputs"], dynamic_axes=axes)  # type: ignore[arg-type]  # fmt: skip
    return buffer.getvalue()
