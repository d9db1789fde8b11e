"""Model folders: ``model.safetensors`` and ``architecture.json``.  No file is unpickled or executed.

Formats are recognised by content, not by name.  The safetensors header is validated before any tensor is created.
Unsupported formats are refused with the reason and the command that converts them: conversion is left to the owner,
on a machine where the file is trusted, because opening a pickle runs its code.

Reference: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import Counter
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as write_safetensors
from torch import Tensor

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models.architectures import build
from auditsvc.models.fake_quantization import install_int8
from auditsvc.models.model import Model
from auditsvc.models.resize_layers import resize
from auditsvc.records import TaskName, faults_of
from auditsvc.records.architecture import CARD, ArchitectureCard

HEAD_BYTES = 512
_TO_SAFETENSORS = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{name}', weights_only=True), 'model.safetensors')\""
)
_FROM_SCRIPT = (
    'python -c "import torch, safetensors.torch as s; '
    "tensors = torch.jit.load('{name}').state_dict(); "
    "s.save_file({{key: tensors[key].contiguous() for key in tensors}}, 'model.safetensors')\""
)
_FROM_EXPORT = (
    'python -c "import torch, safetensors.torch as s; '
    "tensors = torch.export.load('{name}').state_dict; "
    "s.save_file({{key: tensors[key].contiguous() for key in tensors}}, 'model.safetensors')\""
)
_HDF5, _GZIP, TFLITE_MAGIC = b"\x89HDF\r\n\x1a\n", b"\x1f\x8b", b"TFL3"


def foreign(head: bytes, name: str, source: Path | bytes | None = None) -> str | None:
    """Why a file that starts like this is refused, and what would work; None if it is none of the known ones.

    ``source`` is the whole file, by path or as bytes; it lets a zip archive be recognised by its list of names.
    """
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return None  # a safetensors file, whatever the length of its header looks like
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return _refusal(name, "a Python pickle, which can run code when it is opened", _TO_SAFETENSORS)
    if head[:4] == b"PK\x03\x04":
        return _zip(name, source if source is not None else head)
    if head.startswith(_HDF5):
        return f"{name} is an HDF5 file (Keras); it was not opened. Export it as ONNX: python -m tf2onnx.convert --help"
    if head[257:262] == b"ustar" or head.startswith(_GZIP):
        return f"{name} is an archive; it was not opened. Unpack it where you trust it and send the files"
    if head[4:8] == TFLITE_MAGIC:
        return f"{name} is a TensorFlow Lite model. Export it as ONNX: python -m tf2onnx.convert --tflite {name}"
    return None


def is_torch_file(head: bytes, path: Path) -> bool:
    """Whether this is a file of ``torch.save``, and neither TorchScript nor torch.export."""
    if head[:4] == b"PK\x03\x04":
        members = _members(path)
        return "data.pkl" in members and "constants.pkl" not in members and "archive_format" not in members
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _members(source: Path | bytes) -> set[str]:
    """The names in a zip archive, without its top folder; nothing in it is opened."""
    try:
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            return {member.split("/", 1)[-1] for member in archive.namelist()[:10_000]}
    except (zipfile.BadZipFile, OSError, ValueError):
        return set()


def _zip(name: str, source: Path | bytes) -> str:
    """What kind of zip archive."""
    members = _members(source)
    if "constants.pkl" in members or any(member.startswith("code/") for member in members):
        return _refusal(name, "a TorchScript archive, which holds code and a pickle", _FROM_SCRIPT)
    if "archive_format" in members or any(member.startswith("models/") for member in members):
        return _refusal(name, "a torch.export archive (.pt2), whose layers can't be pruned", _FROM_EXPORT)
    return _refusal(name, "a zip archive as torch.save writes it (a pickle inside)", _TO_SAFETENSORS)


def _refusal(name: str, what: str, command: str) -> str:
    named = name if name.isprintable() and not set(name) & set("'\"\\$`") else "model.pt"
    return f"{name} is {what}; it was not opened. Convert it where you trust it: {command.format(name=named)}"


MAX_HEADER, MAX_TENSORS = 10 * 2**20, 100_000


def read_weights(data: bytes, name: str = "model.safetensors") -> dict[str, Tensor]:
    """The tensors of a safetensors file, copied to new memory.

    Tensors that share the file's bytes may be unaligned; the order of summation, and so the last digit of a sum,
    depends on that.

    Raises:
        Refused: anything else, with the reason and what would work.
    """
    if reason := foreign(data[:HEAD_BYTES], name, data):
        raise Refused(reason)
    if len(data) < 8:
        raise Refused(f"{name} is cut off: {len(data)} bytes are too few for a safetensors file; copy it again")
    (header,) = struct.unpack("<Q", data[:8])
    if header > MAX_HEADER:
        raise Refused(f"{name} is not a safetensors file, or its header is over {MAX_HEADER} bytes")
    if len(data) < 8 + header:
        raise Refused(f"{name} is cut off inside its header; copy it again")
    _check_header(data[8 : 8 + header], name)
    try:
        tensors: dict[str, Tensor] = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise Refused(f"{name} is damaged or cut off ({error}); copy it again from where it was saved") from error
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _check_header(header: bytes, name: str) -> None:
    """Two tensors of one name would let two readers see two models in one file."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Refused(f"{name} names a tensor twice")
        return dict(pairs)

    try:
        tensors = json.loads(header, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is not a safetensors file: {error}") from error
    if not isinstance(tensors, dict):
        raise Refused(f"{name} is not a safetensors file: its header is no JSON object")
    if len(tensors) > MAX_TENSORS:
        raise Refused(f"{name} holds more than {MAX_TENSORS} tensors")


WEIGHTS = "model.safetensors"


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


MOST_NAMED = 20


def class_fields(own: tuple[str, ...], wanted: tuple[str, ...], task: TaskName) -> dict[str, tuple[str, ...]]:
    """The card's ``classes`` and ``output_classes`` for a network with outputs for ``own`` classes, in their order, and
    a data set with the ``wanted`` ones, which may be fewer; names that differ in case and punctuation alone are
    the same, other than the characters of texts.

    Raises:
        Refused: the network lacks a class of the data set, or has two of its name.
    """
    own = _told_apart(own, wanted)
    folded = {_folded(name): name for name in wanted}
    alike = task != "ocr" and len(folded) == len(wanted) and len({_folded(name) for name in own}) == len(own)
    known = tuple(folded.get(_folded(name), name) for name in own) if alike else own
    if not wanted or known == wanted:
        return {"classes": known or wanted}
    lacking, more = ([name for name in one if name not in other] for one, other in ((wanted, known), (known, wanted)))
    if lacking:
        raise Refused(
            "the data set has classes that the model has not",
            [f"the data set alone has {name}" for name in lacking[:MOST_NAMED]]
            + [f"the model alone has {name}" for name in more[:MOST_NAMED]]
            + ["say the model's classes in the order of its outputs (--classes, or classes in audit.yaml); a "
               "dataset.yaml may name classes that no image has"],
        )  # fmt: skip
    return {"classes": wanted, "output_classes": known}


def _told_apart(own: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Names that a network has twice, as lists of COCO's and ImageNet's classes do (``N/A``, ``crane``), numbered."""
    seen = Counter(own)
    if twice := [name for name in wanted if seen[name] > 1]:
        raise Refused(f"the model has several classes named {', '.join(twice)}; give each a name of its own")
    return tuple(f"{name} ({number})" if seen[name] > 1 else name for number, name in enumerate(own))


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold())) or name


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
    unknown = [
        f"{key} holds {_kind(tensor)}, which is not supported" for key, tensor in weights.items() if _unknown(tensor)
    ]
    if unknown:
        raise Refused(f"these weights are not a {card.architecture}", unknown)
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


def _unknown(tensor: Tensor) -> bool:
    """8-bit floats and complex numbers."""
    return tensor.is_complex() or (tensor.is_floating_point() and tensor.element_size() < 2)


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
