"""Model folders: ``model.safetensors`` and ``architecture.json``.  Nothing here unpickles or executes a file.

The format is judged by content, not by name.  Weights that were cut by structured pruning have other shapes
than the class makes by default, so the module is built first and then resized to the tensors it is given.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor, nn

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models.card import ArchitectureCard
from auditsvc.models.model import Model
from auditsvc.models.zoo import build
from auditsvc.records import faults_of

WEIGHTS, CARD = "model.safetensors", "architecture.json"
MAX_HEADER, MAX_TENSORS = 10 * 2**20, 100_000
_PICKLES = {b"\x80": "a Python pickle", b"PK": "a zip archive as torch.save writes it (a pickle inside)"}


def read_weights(data: bytes, name: str = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        Refused: anything else, with the reason and what would work.
    """
    for start, what in _PICKLES.items():
        if data.startswith(start):
            raise Refused(
                f"{name} is {what}, which can run code when it is opened; it was not opened. "
                "Convert it where you trust it: "
                'python -c "import torch, safetensors.torch as s; '
                "s.save_file(torch.load('model.pt', weights_only=True), 'model.safetensors')\""
            )
    if len(data) < 8:
        raise Refused(f"{name} is cut off: {len(data)} bytes are too few for a safetensors file; copy it again")
    (header,) = struct.unpack("<Q", data[:8])
    if header > MAX_HEADER:
        raise Refused(f"{name} is not a safetensors file, or its header is over {MAX_HEADER} bytes")
    if len(data) < 8 + header:
        raise Refused(f"{name} is cut off inside its header; copy it again")
    _refuse_repeated_names(data[8 : 8 + header], name)
    try:
        tensors: dict[str, Tensor] = parse_safetensors(data)
    except (SafetensorError, ValueError) as error:
        raise Refused(f"{name} is damaged or cut off ({error}); copy it again from where it was saved") from error
    return tensors


def _refuse_repeated_names(header: bytes, name: str) -> None:
    """Two tensors of one name would let two readers see two models in one file."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Refused(f"{name} names a tensor twice")
        return dict(pairs)

    try:
        tensors = json.loads(header, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is not a safetensors file: {error}") from error
    if len(tensors) > MAX_TENSORS:
        raise Refused(f"{name} holds more than {MAX_TENSORS} tensors")


def read_card(data: bytes) -> ArchitectureCard:
    """The card of a model folder.

    Raises:
        Refused: with every fault of the file.
    """
    try:
        return ArchitectureCard.parse(data)
    except InvalidInput as error:
        raise Refused(f"{CARD} can't be used", error.reasons or (str(error),)) from error
    except ValidationError as error:
        raise Refused(f"{CARD} can't be used", faults_of(error)) from error


def assemble(weights: dict[str, Tensor], card: ArchitectureCard) -> Model:
    """The model of these weights: the class by name, resized to the tensors.

    Raises:
        Refused: tensors that do not belong to the architecture, with their names.
    """
    module = build(card.architecture, card.arguments)
    resize(module, weights)
    wrong = module.load_state_dict(weights, strict=False)
    reasons = [f"missing tensor: {key}" for key in wrong.missing_keys]
    reasons += [f"tensor that the architecture does not have: {key}" for key in wrong.unexpected_keys]
    reasons += [f"not a finite number in {key}" for key, tensor in weights.items() if not _finite(tensor)]
    if reasons:
        raise Refused(f"these weights are not a {card.architecture}", reasons)
    return Model(module, card)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def resize(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give every parameter and buffer the shape of its tensor, and the layers the sizes that follow.

    Raises:
        Refused: a tensor whose number of dimensions is not the layer's.
    """
    for path, layer in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, old in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
            new = weights.get(prefix + name)
            if new is None or new.shape == old.shape:
                continue
            if new.dim() != old.dim():
                raise Refused(f"{prefix}{name} has {new.dim()} dimensions; the architecture has {old.dim()}")
            empty = torch.empty_like(new)
            if isinstance(old, nn.Parameter):
                setattr(layer, name, nn.Parameter(empty))
            else:
                layer.register_buffer(name, empty)
        _follow_shapes(layer)


def _follow_shapes(layer: nn.Module) -> None:
    """Make a layer's numbers agree with its weight's shape."""
    if isinstance(layer, nn.Conv2d):
        outputs, inputs = layer.weight.shape[:2]
        depthwise = layer.groups == layer.in_channels == layer.out_channels
        layer.groups = outputs if depthwise else layer.groups
        layer.out_channels, layer.in_channels = outputs, inputs * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
        layer.num_features = layer.running_mean.shape[0]


def load_model(folder: Path) -> Model:
    """The model of a folder with ``model.safetensors`` and ``architecture.json``.

    Raises:
        Refused: with the reason and what would work.
    """
    missing = [name for name in (WEIGHTS, CARD) if not (folder / name).is_file()]
    if missing:
        raise Refused(f"{folder} is not a model folder: it lacks {' and '.join(missing)}")
    return assemble(read_weights((folder / WEIGHTS).read_bytes()), read_card((folder / CARD).read_bytes()))


def model_files(weights: dict[str, Tensor], card: ArchitectureCard) -> dict[str, bytes]:
    """The files of a model folder, by name; the same tensors give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return {WEIGHTS: write_safetensors(plain), CARD: card.canonical()}
