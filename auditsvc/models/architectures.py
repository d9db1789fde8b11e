"""Architectures by name: built in, of timm and torchvision, and of installed packages.

A module of this package registers factories in its ``NETWORKS``, an installed package in the entry-point group
``auditsvc.architectures``; a factory takes the ``arguments`` of an architecture card and returns an ``nn.Module``.
Only installed code is called: a model file names an architecture but cannot contain one.

For timm and torchvision ``arguments`` holds the model's ``name`` and what the library's own factory takes
(``{"name": "resnet18", "num_classes": 10}``).  Weights come from the model folder, so nothing is downloaded.  Of
torchvision only the classifiers are supported, because its detectors download a backbone by default.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.plugins import Registry, modules_in

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


NETWORKS = {"timm": from_timm, "torchvision": from_torchvision}


def _built_in() -> Iterator[tuple[str, Callable[..., nn.Module]]]:
    for module in modules_in(__package__):
        yield from vars(module).get("NETWORKS", {}).items()


ARCHITECTURES: Registry[Callable[..., nn.Module]] = Registry("auditsvc.architectures", _built_in, accepts=callable)


def architecture_names() -> tuple[str, ...]:
    """Every name that an ``architecture.json`` can have on this machine."""
    return tuple(ARCHITECTURES.by_id)


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """A new module of this architecture, with weights not yet loaded, in eval mode.

    Raises:
        InvalidInput: no such architecture, or arguments that it does not take.
        Unavailable: a plug-in that can't be loaded.
    """
    factory = ARCHITECTURES.by_id.get(name)
    if factory is None:
        raise InvalidInput(f"no architecture named {name!r} is installed; known: {', '.join(architecture_names())}")
    try:
        return factory(**arguments).eval()
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidInput(f"the architecture {name!r} does not take {arguments}: {error}") from error
