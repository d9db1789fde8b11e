"""Architectures by name: the product's own, and those of installed packages.

A package adds some through the entry-point group ``auditsvc.architectures``; each entry point is a callable
that takes the card's ``arguments`` and returns an ``nn.Module``.  Only installed code is ever called: a model
file can name an architecture, never bring one.

Architectures of installed packages: timm and torchvision, by the name that the package gives them.

``architecture`` is ``timm`` or ``torchvision``; ``arguments`` holds ``name`` and what the package's own factory takes
(``{"name": "resnet18", "num_classes": 10}``).  Only the class is taken: weights come from the model folder, so nothing
is ever downloaded.  Of torchvision these are the classifiers; its detectors fetch a backbone unless told otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import torch
from torch import nn

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.models.onnx_layers import OnnxGraph
from auditsvc.models.small_dense import SmallDetector, SmallReader, SmallSegmenter
from auditsvc.models.small_networks import (
    SmallAttention,
    SmallCnn,
    SmallConcat,
    SmallFixedView,
    SmallGrouped,
    SmallMobile,
    SmallResNet,
    SmallSplit,
)
from auditsvc.models.tiny_xception import TinyXception

_FORBIDDEN = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights",
              "weights_backbone", "scriptable", "progress")  # fmt: skip
"""Arguments that make a factory read or fetch files."""


def from_timm(name: str, **arguments: Any) -> nn.Module:
    """A model of timm with random weights.

    Raises:
        ValueError: a name that timm does not have, or an argument that would read or fetch a file.
        Unavailable: timm is not installed.
    """
    _check(name, arguments)
    timm = _package("timm")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model named {name!r}")
    module: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return module


def from_torchvision(name: str, **arguments: Any) -> nn.Module:
    """A model of torchvision with random weights.

    Raises:
        ValueError: a name that torchvision does not have, or an argument that would read or fetch a file.
        Unavailable: torchvision is not installed.
    """
    _check(name, arguments)
    models = _package("torchvision").models
    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no model named {name!r}")
    module: nn.Module = models.get_model(name, weights=None, **arguments)
    return module


def _check(name: str, arguments: dict[str, Any]) -> None:
    """Plain names only: ``hf-hub:...`` would fetch a file from another machine."""
    if not name.replace("_", "").replace(".", "").replace("-", "").isalnum():
        raise ValueError(f"{name!r} is not a plain model name")
    refused = sorted(set(arguments) & set(_FORBIDDEN))
    if refused:
        raise ValueError(f"{', '.join(refused)} can't be set: weights come from the model folder alone")
    nested = sorted(key for key, value in arguments.items() if not isinstance(value, bool | int | float | str | None))
    if nested:
        raise ValueError(f"{', '.join(nested)}: only numbers, words and truth values can be given")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f'{name} is not installed: pip install "auditsvc[{name}]"') from error
    except (RuntimeError, OSError) as error:
        raise Unavailable(f"{name} is installed for another torch than {torch.__version__}: {error}") from error


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
