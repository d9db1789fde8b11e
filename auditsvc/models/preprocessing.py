"""Preprocessing as part of a model: resize, crop, channel order, range, mean and standard deviation, layout.

It runs as a forward pre-hook of the module, so whatever calls the module (checks, attacks, tracers, the exporter) gives
images in 0..1 in RGB or grey, and gradients flow back to them.  A hook has no tensors, so the weights keep their names.

References: the transforms of torchvision 0.29 and the image processors of transformers 5, whose order this is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.errors import InvalidInput
from auditsvc.records import faults_of
from auditsvc.records.architecture import ArchitectureCard, Preprocessing, Resize

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as Pillow converts to grey."""

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "mnist": {"mean": (0.1307,), "std": (0.3081,)},
    "fashion-mnist": {"mean": (0.2860,), "std": (0.3530,)},
    "minus-one-to-one": {"range": (-1.0, 1.0)},
    "0-255": {"range": (0.0, 255.0)},
    "caffe": {"channels": "bgr", "range": (0.0, 255.0), "mean": (103.939, 116.779, 123.68)},
}
"""Preprocessing that many models share, by name."""


def preprocessing_of(text: str) -> Preprocessing:
    """Preprocessing from a preset's name or YAML: ``imagenet``, ``mean: [0.5], std: [0.5], channels: bgr``.

    Raises:
        InvalidInput: with every fault.
    """
    try:
        fields = (
            PRESETS[text] if text in PRESETS else yaml.safe_load(text if "\n" in text else f"{{{text.strip('{} ')}}}")
        )
        return Preprocessing.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput("this preprocessing can't be used", faults_of(error)) from error
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"preprocessing is one of {', '.join(PRESETS)}, or YAML such as 'mean: [0.5], std: [0.5]', not {text!r}"
        ) from error


def fitted(images: Tensor, card: ArchitectureCard) -> Tensor:
    """The images ``(N, C, H, W)`` at the network's size: resized and cropped as the card says.

    Raises:
        InvalidInput: they end up at another size than the network's, or a crop would move boxes or masks.
    """
    made, size = card.preprocessing, (card.input.height, card.input.width)
    if made is None or images.shape[-2:] == size or not (made.resize or made.crop):
        return images
    scaled = _resized(images, made)
    if made.crop is not None:
        if card.task in ("detection", "tracking", "segmentation"):
            raise InvalidInput(f"a crop of {made.crop} would move the boxes or masks of {card.task}; use resize alone")
        top, left = (round((have - want) / 2) for have, want in zip(scaled.shape[-2:], made.crop, strict=True))
        if min(top, left) < 0:
            raise InvalidInput(f"a crop of {made.crop} does not fit into images of {tuple(scaled.shape[-2:])}")
        scaled = scaled[..., top : top + made.crop[0], left : left + made.crop[1]]
    if scaled.shape[-2:] != size:
        raise InvalidInput(f"preprocessing makes images of {tuple(scaled.shape[-2:])}; the network takes {size}")
    return scaled


def scaled_to(images: Tensor, card: ArchitectureCard) -> Tensor:
    """``fitted``; the whole image is scaled, bilinearly, where the card does not say how."""
    made = card.preprocessing or Preprocessing()
    if made.resize is None and made.crop is None:
        made = made.model_copy(update={"resize": Resize(size=(card.input.height, card.input.width))})
    return fitted(images, card.model_copy(update={"preprocessing": made}))


def _resized(images: Tensor, made: Preprocessing) -> Tensor:
    if made.resize is None:
        return images
    size = made.resize.size
    if made.resize.pad is not None and not isinstance(size, int):
        top, left, height, width = letterbox(images.shape[-2:], size)
        inner = _resized(images, made.model_copy(update={"resize": Resize(
            size=(height, width), mode=made.resize.mode, antialias=made.resize.antialias)}))  # fmt: skip
        around = (left, size[1] - width - left, top, size[0] - height - top)
        return functional.pad(inner, around, value=made.resize.pad)
    if isinstance(size, int):
        height, width = images.shape[-2:]
        short = min(height, width)
        size = (int(size * height / short), int(size * width / short))
    if made.resize.mode == "nearest":
        return functional.interpolate(images, size, mode="nearest")
    scaled = functional.interpolate(images, size, mode=made.resize.mode, antialias=made.resize.antialias)
    return scaled.clamp(0, 1) if made.resize.mode == "bicubic" else scaled


def letterbox(given: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where an image of a height and width is in a frame that keeps its proportions: top, left, height, width.

    Rounded as Ultralytics does, https://github.com/ultralytics/ultralytics (``LetterBox``).
    """
    scale = min(whole / side for whole, side in zip(size, given, strict=True))
    height, width = (max(1, round(side * scale)) for side in given)
    top, left = (round((whole - side) / 2 - 0.1) for whole, side in zip(size, (height, width), strict=True))
    return top, left, height, width


def padded_frame(card: ArchitectureCard) -> tuple[int, int] | None:
    """The height and width to which images are padded; None where they are not."""
    resize = card.preprocessing.resize if card.preprocessing else None
    return None if resize is None or resize.pad is None or isinstance(resize.size, int) else resize.size


def without_padding(answers: Tensor, card: ArchitectureCard, given: Sequence[int]) -> Tensor:
    """Boxes and pixels of a padded frame as those of the image of this height and width in it."""
    frame = padded_frame(card)
    if frame is None or tuple(given) == frame:
        return answers
    top, left, height, width = letterbox(given, frame)
    if card.task in ("detection", "tracking"):
        scale = answers.new_tensor((frame[1] / width, frame[0] / height) * 2)
        moved = answers[..., :4] * scale - answers.new_tensor((left / width, top / height) * 2)
        return torch.cat((moved.clamp(0, 1), answers[..., 4:]), dim=2)
    if card.task == "segmentation":
        if answers.shape[2:] != frame:
            answers = functional.interpolate(answers, frame, mode="bilinear", align_corners=False)
        return answers[..., top : top + height, left : left + width]
    return answers


def normalised(images: Tensor, card: ArchitectureCard) -> Tensor:
    """Images in 0..1 at the network's size as the network takes them: channels, range, mean, std, dtype, layout."""
    made = card.preprocessing
    if made is None:
        return images
    images = _channels(images, made, card.input.channels)
    low, high = made.range
    if made.range != (0.0, 1.0):
        images = images * (high - low) + low
    if made.mean:
        images = images - images.new_tensor(made.mean).view(1, -1, 1, 1)
    if made.std:
        images = images / images.new_tensor(made.std).view(1, -1, 1, 1)
    if made.dtype == "uint8":
        images = images.round().to(torch.uint8)
    elif made.dtype == "float16":
        images = images.half()
    return images.permute(0, 2, 3, 1).contiguous() if made.layout == "nhwc" else images


def _channels(images: Tensor, made: Preprocessing, wanted: int) -> Tensor:
    if wanted == 1 and images.shape[1] == 3:
        return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    if wanted == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    return images.flip(1) if made.channels == "bgr" else images


class _Prepare:
    """The forward pre-hook; a class, so that it is found again on a copied module."""

    def __init__(self, card: ArchitectureCard) -> None:
        self.card = card

    def __call__(self, _module: nn.Module, images: tuple[Any, ...]) -> tuple[Any, ...]:
        return (normalised(fitted(images[0], self.card), self.card), *images[1:])


def install_preprocessing(module: nn.Module, card: ArchitectureCard) -> None:
    """Make the card's preprocessing the first step of the module, in place of one that is installed already."""
    hooks = module._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if isinstance(hook, _Prepare)]:
        del hooks[key]
    if card.preprocessing is not None:
        module.register_forward_pre_hook(_Prepare(card))
