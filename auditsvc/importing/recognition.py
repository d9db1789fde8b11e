"""What a model on disk is and what it says about itself: format, classes, input, outputs, preprocessing.

A model is a model folder, an ONNX file, a state dict (``.safetensors`` or a file of ``torch.save``), or a folder as
Hugging Face's ``save_pretrained`` or an MLflow version writes it.  Formats are recognised by content.  Nothing is
executed; pickles and ONNX files are read in a clean process.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing.clean_process import run_clean, scratch_folder
from auditsvc.importing.onnx_import import refuse_foreign
from auditsvc.importing.onnx_session import OnnxFile
from auditsvc.models import CARD, WEIGHTS, assemble, build, read_card, read_weights
from auditsvc.models.architectures import architecture_of, pretrained_weights, published
from auditsvc.models.model import output_activation
from auditsvc.models.model_files import HEAD_BYTES, class_fields, foreign, is_torch_file
from auditsvc.models.state_dicts import fitted_to, unwrapped
from auditsvc.records.architecture import (
    ArchitectureCard,
    InputSpec,
    ModelDescription,
    Preprocessing,
    Resize,
)

Format = Literal["model folder", "ONNX", "state dict", "Hugging Face"]

SECONDS, MAX_BYTES = 600.0, 4 * 2**30
_MODES: dict[int, Any] = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters."""


@dataclass(frozen=True)
class ModelRecognition:
    """A model on disk: ``path`` is the file or folder that was found, ``known`` what it says about itself.

    ``outputs`` are its outputs by name with their shapes, 0 for a free size; of a state dict, the size of the last
    layer.  ``questions`` are what must be said before it can be used, ``notes`` what was done or found.
    """

    format: Format
    path: Path
    known: ModelDescription
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weights: Mapping[str, Tensor] = field(default_factory=dict, repr=False)


def recognise_model(path: Path, said: ModelDescription = ModelDescription()) -> ModelRecognition:  # noqa: B008 - frozen
    """What the model at ``path`` is.  ``said`` wins over what the file says.

    Raises:
        Refused: no model that can be read, with what each file is and what would work.
        Unavailable: the clean process could not be run.
    """
    found = find_model(path)
    if found.is_dir():
        seen = (_model_folder if (found / CARD).is_file() else _hugging_face)(found)
    else:
        seen = _onnx(found) if found.suffix == ".onnx" else _state_dict(found, said)
    known = said.over(seen.known)
    return ModelRecognition(
        seen.format, found, known, seen.outputs, (*seen.questions, *_questions(known)), seen.notes, seen.weights
    )


def _questions(known: ModelDescription) -> tuple[str, ...]:
    asked = {
        "the classes, in the order of the outputs": not known.classes,
        "the image size: channels x height x width": known.input is None,
        "the preprocessing: how pixels in 0..1 become the network's input": known.preprocessing is None,
    }
    return tuple(question for question, is_open in asked.items() if is_open)


def find_model(path: Path) -> Path:
    """The model folder or the one model file that is meant.

    Raises:
        Refused: there is none, or several; with what each other file is and what would work.
    """
    if path.is_file() and not path.is_symlink():
        files, folders = [path], []
    elif path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file() and not item.is_symlink())
        folders = [file.parent for file in files if file.name in (CARD, "config.json")]
    else:
        raise Refused(f"{path} is not a plain file or folder")
    whole = [folder for folder in folders if (folder / WEIGHTS).is_file()]
    if len(whole) == 1:
        return whole[0]
    graphs = [file for file in files if file.suffix == ".onnx"] or [file for file in files if _has_weights(file)]
    if len(graphs) == 1 and not whole:
        return graphs[0]
    reasons = [reason for file in files if (reason := _why_not(file))]
    raise Refused(
        f"{path} holds no model that can be read: {WEIGHTS} with {CARD} or config.json, one ONNX file, or one "
        "state dict (.safetensors, .pt) is needed",
        reasons or [f"{file.name} could be meant" for file in (*whole, *graphs)],
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def _has_weights(path: Path) -> bool:
    return path.suffix == ".safetensors" or is_torch_file(_head(path), path)


def _why_not(path: Path) -> str | None:
    return None if _has_weights(path) else foreign(_head(path), path.name, path)


def _model_folder(folder: Path) -> ModelRecognition:
    card = read_card((folder / CARD).read_bytes())
    shared = ModelDescription.model_fields.keys() & type(card).model_fields.keys()
    fields = {name: value for name in shared if (value := getattr(card, name)) is not None}
    fields["probabilities"] = card.output_activation is not None
    if card.preprocessing is None:
        fields["preprocessing"] = Preprocessing()
    return ModelRecognition("model folder", folder, ModelDescription(**fields))


def _read_pickle(path: Path, keep: Path) -> tuple[str, ...]:
    """The tensors of a file of ``torch.save`` as safetensors in ``keep``; what was done to get them."""
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    with scratch_folder() as scratch:
        job = {"path": str(path.absolute())}
        (answer,) = run_clean("auditsvc.importing.read_untrusted", job, scratch, seconds=SECONDS)
        if answer["reasons"]:
            raise Refused(f"{path.name} can't be read", answer["reasons"])
        shutil.move(scratch / WEIGHTS_READ, keep)
    return tuple(answer["notes"])


ARCHITECTURE = "the architecture: timm:NAME, torchvision:NAME or package.module:factory (--architecture)"
PROCESSOR = "preprocessor_config.json"
WEIGHTS_READ = "weights.safetensors"


def _state_dict(path: Path, said: ModelDescription) -> ModelRecognition:
    if is_torch_file(_head(path), path):
        with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
            notes = _read_pickle(path, Path(scratch) / WEIGHTS_READ)
            weights = read_weights((Path(scratch) / WEIGHTS_READ).read_bytes(), path.name)
    elif path.suffix == ".safetensors":
        weights, notes = unwrapped(read_weights(path.read_bytes(), path.name))
        weights = dict(sorted(weights.items(), key=_as_in_a_network))
    else:
        raise Refused(_why_not(path) or f"{path.name} is not a model file that can be read")
    last = [tensor for name, tensor in weights.items() if tensor.dim() in (2, 4) and not name.endswith("_mask")]
    outputs = {"last layer": (0, last[-1].shape[0])} if last else {}
    known = _published(said, last[-1].shape[0] if last else 0)
    asked = () if said.architecture else (ARCHITECTURE,)
    return ModelRecognition("state dict", path, known, outputs, asked, notes, weights)


def _as_in_a_network(weight: tuple[str, Tensor]) -> tuple[bool, list[tuple[int, str]]]:
    """Safetensors files do not keep the order of layers: matrices last, as heads are, then by the numbers in names."""
    name, tensor = weight
    return tensor.dim() == 2, [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _published(said: ModelDescription, outputs: int) -> ModelDescription:
    """What timm and torchvision publish about a model of theirs, with the classes that it has as many outputs for."""
    if not (said.architecture or "").startswith(("timm:", "torchvision:")):
        return ModelDescription()
    preprocessing, size, classes = published(str(said.architecture))
    fields: dict[str, Any] = {"task": "classification"}
    if len(classes) == outputs:
        fields["classes"] = classes
    if preprocessing is not None:
        fields["preprocessing"] = preprocessing
    if size is not None:
        fields["input"] = InputSpec(channels=size[0], height=size[1], width=size[2])
    return ModelDescription(**fields)


def _onnx(path: Path) -> ModelRecognition:
    refuse_foreign(path)
    info = OnnxFile(path).info
    fields: dict[str, Any] = {"input": spec} if (spec := info.spec()) else {}
    if any(port.last in ("Softmax", "Sigmoid") for port in info.outputs):
        fields["probabilities"] = True
    outputs = {port.name: tuple(size or 0 for size in port.shape) for port in info.outputs}
    asked = (
        ("the output that is audited: " + ", ".join(outputs),) if len(outputs) > 1 and not info.detector_output else ()
    )
    notes = (
        f"opset {info.opset}, takes {info.image}",
        *(f"gives {port}, made by {port.last}" for port in info.outputs),
    )
    return ModelRecognition("ONNX", path, info.described.over(ModelDescription(**fields)), outputs, asked, notes)


def _hugging_face(folder: Path) -> ModelRecognition:
    """A folder of ``save_pretrained``: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``."""
    config = _json(folder / "config.json")
    kind = " ".join(map(str, config.get("architectures") or ()))
    task = "segmentation" if "SemanticSegmentation" in kind else "classification"
    labels = config.get("id2label") or {}
    labels = {} if all(str(label) == f"LABEL_{key}" for key, label in labels.items()) else labels
    fields: dict[str, Any] = {
        "architecture": "transformers",
        "arguments": {"config": config, "task": task},
        "task": task,
    }
    if labels:
        fields["classes"] = tuple(str(labels[key]) for key in sorted(labels, key=int))
    places = (folder, folder.parent / "components" / "image_processor")
    processor = next((place / PROCESSOR for place in places if (place / PROCESSOR).is_file()), folder / PROCESSOR)
    made = _processor(_json(processor)) if processor.is_file() else None
    size = (made.crop or (made.resize.size if made.resize else None)) if made else config.get("image_size")
    if isinstance(size, int):
        size = (size, size)
    if size:
        fields["input"] = InputSpec(channels=config.get("num_channels", 3), height=size[0], width=size[1])
    if made is not None:
        fields["preprocessing"] = made
    read_weights((folder / WEIGHTS).read_bytes())
    return ModelRecognition("Hugging Face", folder, ModelDescription(**fields))


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"{path.name} can't be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise Refused(f"{path.name} holds no JSON object")
    return found


def _processor(config: Mapping[str, Any]) -> Preprocessing:
    """What the image processor of this configuration does to an image."""
    fields: dict[str, Any] = {}
    if config.get("do_resize", True) and config.get("size"):
        mode = _MODES.get(config.get("resample", 2))
        if mode is None:
            raise Refused(f"preprocessor_config.json resizes with Pillow's filter {config.get('resample')}; "
                          f"supported are {', '.join(_MODES.values())}")  # fmt: skip
        shorter, pair = _sizes(config["size"])
        share = config.get("crop_pct") or 1
        fields["resize"] = Resize(size=pair or math.floor(int(shorter or 224) / share), mode=mode)
        if shorter and share != 1:
            fields["crop"] = (shorter, shorter)
    if config.get("do_center_crop", "crop_size" in config) and config.get("crop_size"):
        side, pair = _sizes(config["crop_size"])
        fields["crop"] = pair or (side, side)
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    fields["range"] = (0.0, round(255 * scale, 6))
    if config.get("do_normalize", True) and config.get("image_mean"):
        fields |= {"mean": tuple(config["image_mean"]), "std": tuple(config["image_std"])}
    return Preprocessing(**fields)


def _sizes(size: Any) -> tuple[int | None, tuple[int, int] | None]:
    """The shorter side, or (height, width); older files have a number."""
    if isinstance(size, Mapping):
        if "height" in size:
            return None, (int(size["height"]), int(size["width"]))
        return int(size.get("shortest_edge", 224)), None
    return None, (int(size), int(size))


def imported(
    found: ModelRecognition, described: ModelDescription, wanted: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], ArchitectureCard, tuple[str, ...]]:
    """The weights of a state dict or Hugging Face folder under its architecture's names, its card, and what was done.

    ``described`` is the whole description: what was said, what the file says, and what the data set says.  ``wanted``
    are the classes in the order of the data set.

    Raises:
        InvalidInput: something that must be said is missing, or an architecture that can't be made.
        Refused: weights that are not of this architecture, with every reason.
        Forbidden: a factory of the user's own code that may not be called here.
    """
    missing = [] if described.architecture else [ARCHITECTURE]
    missing += _questions(described.model_copy(update={"preprocessing": Preprocessing()}))
    if missing or described.input is None:
        raise InvalidInput(f"{found.path.name} does not say all that is needed to run it; say", missing)
    name, arguments = architecture_of(str(described.architecture), len(described.classes))
    size, preprocessing = _taken(found.weights, described.input, described.preprocessing)
    card = ArchitectureCard(
        architecture=name,
        arguments=arguments | described.arguments,
        task=described.task or "classification",
        **class_fields(described.classes, wanted, described.task or "classification"),
        input=size,
        output=described.output,
        decoding=described.decoding,
        preprocessing=preprocessing,
    )
    notes: tuple[str, ...] = ()
    if found.format == "Hugging Face":
        weights = pretrained_weights(found.path, card.arguments["config"], card.task)
    else:
        weights, notes = fitted_to(found.weights, build(card.architecture, card.arguments).state_dict())
    model = assemble(weights, card)
    activation = None if described.probabilities is False else output_activation(model, said=described.probabilities)
    if activation:
        card = card.model_copy(update={"output_activation": activation})
        notes = (*notes, f"the outputs are probabilities: the {activation} at the end is inverted")
    return weights, card, (*found.notes, *notes)


def _taken(
    weights: Mapping[str, Tensor], given: InputSpec, preprocessing: Preprocessing | None
) -> tuple[InputSpec, Preprocessing | None]:
    """The input with the channels that the first convolution takes; grey images fill three channels, and colour
    becomes grey for one."""
    first = next((tensor.shape[1] for tensor in weights.values() if tensor.dim() == 4), given.channels)
    if {first, given.channels} != {1, 3}:
        return given, preprocessing
    made = preprocessing or Preprocessing(channels="grey" if first == 1 else "rgb")
    return given.model_copy(update={"channels": first}), made
