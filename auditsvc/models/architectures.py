"""Architectures by name: built in, of timm and torchvision, and of installed packages.

A module of this package registers factories in its ``NETWORKS``, an installed package in the entry-point group
``auditsvc.architectures``; a factory takes the ``arguments`` of an architecture card and returns an ``nn.Module``.
Only installed code is called: a model file names an architecture but cannot contain one.

A card of ``python`` names a factory of the user's own code, ``package.module:factory``.  Calling it runs that code, so
only the factories of AUDITSVC_ARCHITECTURES are called, and those that the command line names.

For timm and torchvision ``arguments`` holds the model's ``name`` and what the library's own factory takes
(``{"name": "resnet18", "num_classes": 10}``).  Weights come from the model folder, so nothing is downloaded.  Of
torchvision only the classifiers are supported, because its detectors download a backbone by default.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from auditsvc.errors import Forbidden, InvalidInput, Unavailable
from auditsvc.plugins import Registry, modules_in
from auditsvc.records.architecture import Preprocessing, Resize
from auditsvc.settings import Settings

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


def allow_architecture(factory: str, folder: Path) -> None:
    """Let this process and its clean processes call ``package.module:factory``, looked for in ``folder`` as well.

    For the command line alone, where the code is the caller's own.
    """
    names = [*filter(None, os.environ.get("AUDITSVC_ARCHITECTURES", "").split(",")), factory]
    os.environ["AUDITSVC_ARCHITECTURES"] = ",".join(dict.fromkeys(names))
    os.environ["AUDITSVC_ARCHITECTURES_DIR"] = str(folder.absolute())


def from_python(factory: str, **arguments: Any) -> nn.Module:
    """The module that ``package.module:factory`` makes.

    Raises:
        Forbidden: a factory that is not allowed here.
        ValueError: no such module or factory, or one that makes no ``nn.Module``.
    """
    settings = Settings()
    if factory not in settings.architectures:
        raise Forbidden(
            f"{factory} is the user's own code and may not be called here: pass --architecture {factory} on the "
            "command line, or let the operator list it in AUDITSVC_ARCHITECTURES"
        )
    where, _, name = factory.partition(":")
    folder = str(settings.architectures_dir or "")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        make = getattr(importlib.import_module(where), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{error}; it is looked for among the installed packages and in {folder or 'no folder'}"
        ) from error
    module = make(**arguments)
    if not isinstance(module, nn.Module):
        raise ValueError(f"it makes a {type(module).__name__}, no torch.nn.Module")
    return module


class HuggingFaceNetwork(nn.Module):
    """A model of transformers that takes images and gives its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``logits`` of the model's output."""
        logits: torch.Tensor = self.network(pixel_values=images).logits
        return logits


def from_transformers(config: dict[str, Any], task: str = "classification") -> nn.Module:
    """A model of transformers with random weights, from its ``config.json``; no code of the model's is run.

    Raises:
        ValueError: a model type that transformers does not have, or one that fetches another model.
        Unavailable: transformers is not installed.
    """
    transformers = _package("transformers")
    _check_config(config)
    plain = {key: value for key, value in config.items() if key not in ("auto_map", "_name_or_path", "architectures")}
    made = transformers.AutoConfig.for_model(**plain)
    return HuggingFaceNetwork(getattr(transformers, _AUTO[task]).from_config(made, trust_remote_code=False))


_AUTO = {"classification": "AutoModelForImageClassification", "segmentation": "AutoModelForSemanticSegmentation"}


def _check_config(config: dict[str, Any]) -> None:
    if config.get("backbone") or config.get("use_pretrained_backbone"):
        raise ValueError("a backbone of its own would be fetched; it can't be used")


def pretrained_weights(folder: Path, config: dict[str, Any], task: str) -> dict[str, torch.Tensor]:
    """The weights of a folder of ``save_pretrained`` under the names of ``from_transformers``.

    transformers renames tensors when it loads them, so it reads them itself: safetensors only, no code, no network.

    Raises:
        InvalidInput: tensors that are missing, left over or of another shape, or a model that can't be made.
        Unavailable: transformers is not installed.
    """
    transformers = _package("transformers")
    options = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        _check_config(config)
        network, loaded = getattr(transformers, _AUTO[task]).from_pretrained(
            str(folder), output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise InvalidInput(f"transformers can't load {folder.name}: {str(error).splitlines()[0][:300]}") from error
    reasons = [f"{kind.replace('_', ' ')}: {key}" for kind in sorted(loaded) for key in loaded[kind]]
    if reasons:
        raise InvalidInput(f"the weights in {folder.name} are not the model of its config.json", reasons)
    return HuggingFaceNetwork(network.eval()).state_dict()


def architecture_of(said: str, classes: int) -> tuple[str, dict[str, Any]]:
    """The card's architecture and arguments for ``timm:NAME``, ``torchvision:NAME``, ``package.module:factory`` or an
    installed architecture's name."""
    library, _, name = said.partition(":")
    if not name:
        return said, {}
    if library in ("timm", "torchvision"):
        return library, {"name": name, "num_classes": classes}
    return "python", {"factory": said}


Published = tuple[Preprocessing | None, tuple[int, int, int] | None, tuple[str, ...]]


def published(said: str) -> Published:
    """What timm or torchvision publishes for ``timm:NAME``: preprocessing, the input it ends at, the classes' names.

    Raises:
        InvalidInput: no such model.
        Unavailable: the library is not installed.
    """
    library, _, name = said.partition(":")
    try:
        return _of_timm(name) if library == "timm" else _of_torchvision(name)
    except (ValueError, KeyError) as error:
        raise InvalidInput(f"{library} has no model named {name!r}") from error


def _of_timm(name: str) -> Published:
    published = _package("timm").get_pretrained_cfg(name)
    if published is None:
        return None, None, ()
    classes: tuple[str, ...] = ()
    if published.num_classes == 1000:
        names = importlib.import_module("timm.data").ImageNetInfo()
        classes = tuple(names.index_to_label_name(number) for number in range(1000))
    size: tuple[int, int, int] = tuple(published.input_size)
    grow = published.crop_pct or 1.0
    mode = published.interpolation if published.interpolation in ("nearest", "bilinear", "bicubic") else "bicubic"
    resize = Resize(size=math.floor(min(size[1:]) / grow), mode=mode)
    mean, std = tuple(published.mean), tuple(published.std)
    return Preprocessing(resize=resize, crop=size[1:], mean=mean, std=std), size, classes


def _of_torchvision(name: str) -> Published:
    published = _package("torchvision").models.get_model_weights(name)
    if not len(published):
        return None, None, ()
    made, classes = published.DEFAULT.transforms(), tuple(published.DEFAULT.meta.get("categories", ()))
    resize = Resize(size=made.resize_size[0], mode=made.interpolation.value, antialias=bool(made.antialias))
    side = made.crop_size[0]
    return Preprocessing(resize=resize, crop=(side, side), mean=made.mean, std=made.std), (3, side, side), classes


NETWORKS = {
    "python": from_python,
    "timm": from_timm,
    "torchvision": from_torchvision,
    "transformers": from_transformers,
}


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
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ImportError, SyntaxError, NameError,
            ArithmeticError, OSError) as error:  # fmt: skip
        how = "; arguments are given as FACTORY(name=value)" if isinstance(error, TypeError) else ""
        raise InvalidInput(f"the architecture {name!r} does not take {arguments}: {error}{how}") from error
