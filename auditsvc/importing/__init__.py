"""Model import: admission of files, ONNX conversion, and the round trip through a clean process.

Files are identified by content, never by name, and no pickle is opened.  ONNX is parsed and converted in a sandboxed
child process with an empty environment and hard limits on memory, time and file sizes; the result is data (a list of
nodes and a safetensors file), accepted only after comparison with ONNX Runtime.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing.clean_process import LIMITS, ONNX, inspect_folder, run_clean, scratch_folder
from auditsvc.importing.recognition import ModelRecognition, imported, recognise_model
from auditsvc.importing.round_trip import Trip, round_trip, round_trip_all
from auditsvc.models import ArchitectureCard, InputSpec, Model, assemble, read_weights
from auditsvc.models.model_files import HEAD_BYTES, foreign
from auditsvc.records import TaskName

SECONDS, MAX_BYTES, MAX_ARGUMENTS = 600.0, 2 * 2**30, 64 * 2**20
TOLERANCE = 1e-4
IMAGES = 4


def from_onnx(
    path: Path, *, task: TaskName, classes: tuple[str, ...], image: InputSpec, output: str | None = None
) -> Model:
    """The model of an ONNX file, as a network that can be pruned, marked and audited.

    Inference graphs of both of torch's exporters are understood.  A fixed batch size is made free.  ``output`` names
    the output to audit where the graph has several.

    Raises:
        Refused: a file that is too large or no ONNX, operators that can't be converted, or answers that differ from
            those of ONNX Runtime by more than 1e-4; with every reason.
        Unavailable: the child could not be run: ``onnx`` and ``onnxruntime`` are needed (the extra ``onnx``).
    """
    _judge(path)
    shape = (IMAGES, image.channels, image.height, image.width)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with scratch_folder() as scratch:
        save_file({"images": images}, scratch / "images.safetensors")
        job = {"onnx": str(path.absolute()), "images": str(scratch / "images.safetensors"), "output": output}
        (answer,) = run_clean("auditsvc.importing.convert_onnx", job, scratch, seconds=SECONDS)
        if answer["reasons"]:
            raise Refused(f"{path.name} can't be converted", answer["reasons"])
        if (scratch / "arguments.json").stat().st_size > MAX_ARGUMENTS:
            raise Refused(f"{path.name} has too many nodes")
        arguments = json.loads((scratch / "arguments.json").read_text("utf-8"))
        weights = read_weights((scratch / "weights.safetensors").read_bytes(), path.name)
        wanted = load_file(scratch / "answers.safetensors")["answers"].clone()
    card = ArchitectureCard(architecture="onnx_graph", arguments=arguments, task=task, classes=classes, input=image)
    model = assemble(weights, card)
    reasons = _differences(model, images, wanted)
    if reasons:
        raise Refused(f"{path.name} was converted, but does not answer as ONNX Runtime does", reasons)
    return model


def _judge(path: Path) -> None:
    if not path.is_file() or path.is_symlink():
        raise Refused(f"{path} is not a plain file")
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are admitted")
    with path.open("rb") as stream:
        reason = foreign(stream.read(HEAD_BYTES), path.name, path)
    if reason:
        raise Refused(reason)


def _differences(model: Model, images: torch.Tensor, wanted: torch.Tensor) -> list[str]:
    """Where the converted network differs, at two batch sizes."""
    reasons: list[str] = []
    for size in (IMAGES, IMAGES // 2):
        try:
            with torch.inference_mode():
                found = model.raw(images[:size])
        except (RuntimeError, InvalidInput, KeyError, IndexError, TypeError) as error:
            reasons.append(f"batch of {size}: {str(error).splitlines()[0][:200]}")
            continue
        if found.shape != wanted[:size].shape:
            reasons.append(f"batch of {size}: {tuple(found.shape)}, not {tuple(wanted[:size].shape)}")
            continue
        gap, scale = float((found - wanted[:size]).abs().max()), max(1.0, float(wanted.abs().max()))
        if not gap <= TOLERANCE * scale:
            reasons.append(f"batch of {size}: answers differ by {gap:.3g}")
    return reasons


__all__ = [
    "LIMITS",
    "ONNX",
    "ModelRecognition",
    "Trip",
    "from_onnx",
    "imported",
    "inspect_folder",
    "recognise_model",
    "round_trip",
    "round_trip_all",
]
