"""Conversion of an ONNX file to torch layers, which can be pruned, watermarked and attacked with gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing.clean_process import run_clean, scratch_folder
from auditsvc.models import ArchitectureCard, Model, assemble, read_weights
from auditsvc.models.model_files import HEAD_BYTES, foreign
from auditsvc.records.architecture import Preprocessing

SECONDS, MAX_BYTES, MAX_ARGUMENTS = 600.0, 2 * 2**30, 64 * 2**20
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
IMAGES = 4


def from_onnx(path: Path, card: ArchitectureCard) -> Model:
    """The model of an ONNX file, as a network that can be pruned, marked and audited.

    Inference graphs of both of torch's exporters are understood.  A fixed batch size is made free.
    ``card`` says the rest: its output is the one that is converted where the graph has several.  Layout and number type
    of the input become layers, so they are no longer preprocessing.

    Raises:
        Refused: a file that is too large or no ONNX, operators that can't be converted, or answers that differ from
            those of ONNX Runtime by more than 1e-4; with every reason.
        Unavailable: the child could not be run.
    """
    refuse_foreign(path)
    shape = (IMAGES, card.input.channels, card.input.height, card.input.width)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)) / 255  # exact as bytes too
    with scratch_folder() as scratch:
        save_file({"images": images}, scratch / "images.safetensors")
        job = {"onnx": str(path.absolute()), "images": str(scratch / "images.safetensors"), "output": card.output}
        (answer,) = run_clean("auditsvc.importing.convert_onnx", job, scratch, seconds=SECONDS)
        if answer["reasons"]:
            raise Refused(f"{path.name} can't be converted", answer["reasons"])
        if (scratch / "arguments.json").stat().st_size > MAX_ARGUMENTS:
            raise Refused(f"{path.name} has too many nodes")
        arguments = json.loads((scratch / "arguments.json").read_text("utf-8"))
        weights = read_weights((scratch / "weights.safetensors").read_bytes(), path.name)
        wanted = load_file(scratch / "answers.safetensors")["answers"].clone()
    made = {"architecture": "onnx_graph", "arguments": arguments, "output": None}
    model = assemble(weights, card.model_copy(update={**made, "preprocessing": _as_floats(card.preprocessing)}))
    reasons = _differences(
        assemble(weights, card.model_copy(update={**made, "preprocessing": None})),
        images[: len(wanted)],
        wanted,
        HALF_TOLERANCE if answer["half"] else TOLERANCE,
    )
    if reasons:
        raise Refused(f"{path.name} was converted, but does not answer as ONNX Runtime does", reasons)
    return model


def _as_floats(made: Preprocessing | None) -> Preprocessing | None:
    if made is None:
        return None
    scale: dict[str, Any] = {"range": (0.0, 1.0)} if made.dtype == "uint8" else {}
    left = made.model_copy(update={"layout": "nchw", "dtype": "float32", **scale})
    return None if left == Preprocessing() else left


def refuse_foreign(path: Path) -> None:
    """Refuse what is no plain file, is too large, or is known to be something other than ONNX.

    Raises:
        Refused: with what it is and what would convert it.
    """
    if not path.is_file() or path.is_symlink():
        raise Refused(f"{path} is not a plain file")
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} has {path.stat().st_size} bytes; at most {MAX_BYTES} are admitted")
    with path.open("rb") as stream:
        reason = foreign(stream.read(HEAD_BYTES), path.name, path)
    if reason:
        raise Refused(reason)


def _differences(model: Model, images: torch.Tensor, wanted: torch.Tensor, tolerance: float) -> list[str]:
    """Where the converted network differs, at two batch sizes."""
    reasons: list[str] = []
    for size in (len(images), (len(images) + 1) // 2):
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
        if not gap <= tolerance * scale:
            reasons.append(f"batch of {size}: answers differ by {gap:.3g}")
    return reasons
