"""Model folders: ``model.safetensors`` and ``architecture.json``.  Nothing here unpickles or executes a file.

The format is judged by content, not by name.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save as write_safetensors
from torch import Tensor

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models.card import ArchitectureCard
from auditsvc.models.int8 import install_int8
from auditsvc.models.model import Model
from auditsvc.models.reading import read_weights
from auditsvc.models.resizing import resize
from auditsvc.models.zoo import build
from auditsvc.records import faults_of

WEIGHTS, CARD = "model.safetensors", "architecture.json"


def read_card(data: bytes) -> ArchitectureCard:
    """The card of a model folder.

    Raises:
        Refused: with every fault of the file.
    """
    try:
        return ArchitectureCard.parse(data)
    except InvalidInput as error:
        raise Refused(f"{CARD} can't be used", error.reasons or (str(error),)) from error
    except (ValidationError, RecursionError) as error:
        reasons = faults_of(error) if isinstance(error, ValidationError) else (str(error),)
        raise Refused(f"{CARD} can't be used", reasons) from error


def assemble(weights: dict[str, Tensor], card: ArchitectureCard) -> Model:
    """The model of these weights: the class by name, resized to the tensors, INT8 where they are integers.

    Raises:
        Refused: tensors that do not belong to the architecture, with their names.
    """
    module = build(card.architecture, card.arguments)
    resize(module, weights)
    install_int8(module, weights)
    wanted = module.state_dict()
    reasons = [f"missing tensor: {key}" for key in wanted if key not in weights]
    reasons += [f"tensor that the architecture does not have: {key}" for key in weights if key not in wanted]
    reasons += [
        f"{key} holds {_kind(tensor)}; the architecture has {_kind(wanted[key])}"
        for key, tensor in weights.items()
        if key in wanted and tensor.is_floating_point() != wanted[key].is_floating_point()
    ]
    reasons += [f"not a finite number in {key}" for key, tensor in weights.items() if not _finite(tensor)]
    if reasons:
        raise Refused(f"these weights are not a {card.architecture}", reasons)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise Refused(f"these weights are not a {card.architecture}", str(error).splitlines()[1:]) from error
    return Model(module, card)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


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
    """The files of a model folder, by name; the same tensors give the same bytes.

    Tensors that share memory are written one by one: values are kept, sharing is not.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    return {WEIGHTS: write_safetensors(plain), CARD: card.canonical()}
