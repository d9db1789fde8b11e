"""Architectures by name: the product's own, and those of installed packages.

A package adds some through the entry-point group ``auditsvc.architectures``; each entry point is a callable
that takes the card's ``arguments`` and returns an ``nn.Module``.  Only installed code is ever called: a model
file can name an architecture, never bring one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from auditsvc.errors import InvalidInput
from auditsvc.models.onnx_graph import OnnxGraph
from auditsvc.models.packages import from_timm, from_torchvision
from auditsvc.models.small_cnn import SmallCnn
from auditsvc.models.small_dense import SmallDetector, SmallReader, SmallSegmenter
from auditsvc.models.small_families import (
    SmallAttention,
    SmallConcat,
    SmallFixedView,
    SmallGrouped,
    SmallMobile,
    SmallSplit,
)
from auditsvc.models.small_resnet import SmallResNet
from auditsvc.models.tiny_xception import TinyXception

GROUP = "auditsvc.architectures"

_OWN: dict[str, Callable[..., nn.Module]] = {
    "onnx_graph": OnnxGraph,
    "small_attention": SmallAttention,
    "small_cnn": SmallCnn,
    "small_concat": SmallConcat,
    "small_detector": SmallDetector,
    "small_fixed_view": SmallFixedView,
    "small_grouped": SmallGrouped,
    "small_mobile": SmallMobile,
    "small_reader": SmallReader,
    "small_resnet": SmallResNet,
    "small_segmenter": SmallSegmenter,
    "small_split": SmallSplit,
    "timm": from_timm,
    "tiny_xception": TinyXception,
    "torchvision": from_torchvision,
}


def architecture_names() -> tuple[str, ...]:
    """Every name that can stand in an ``architecture.json`` on this machine."""
    return tuple(sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))}))


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A new module of this architecture, with weights not yet loaded, in eval mode.

    Raises:
        InvalidInput: no such architecture, or arguments that it does not take.
    """
    factory = _OWN.get(name)
    if factory is None:
        points = entry_points(group=GROUP, name=name)
        if not points:
            known = ", ".join(architecture_names())
            raise InvalidInput(f"no architecture named {name!r} is installed; known: {known}")
        factory = next(iter(points)).load()
    try:
        return factory(**arguments).eval()
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidInput(f"the architecture {name!r} does not take {arguments}: {error}") from error
