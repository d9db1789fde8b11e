"""Round trip: saved files, loaded in a clean process, must give bit-identical outputs to the model that was saved.

A file that loads without an error may still be another model: a layer pruned at the wrong channels, an unsaved
buffer, a value that existed only in the original process.  Two batch sizes are compared, because a batch size
hard-coded in a reshape shows only at the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auditsvc.errors import Refused, Unavailable
from auditsvc.importing.clean_process import inspect_folder, run_clean, scratch_folder
from auditsvc.models import Model
from auditsvc.ports import Progress

START_SECONDS, TRIP_SECONDS = 120.0, 60.0


@dataclass(frozen=True)
class Trip:
    """One folder that must hold this model; ``images`` is ``(N, C, H, W)`` float32 in 0..1, N at least 2."""

    folder: Path
    model: Model
    images: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        """The two batch sizes that are compared: all images, and about half of them."""
        return (len(self.images), (len(self.images) + 1) // 2)


def round_trip(folder: Path, model: Model, images: Tensor) -> None:
    """Load the saved files in a clean process and compare; silence means that they are the model.

    Raises:
        Refused: with every reason: files that are not admitted, outputs that are not finite, of another shape, or
            not equal in every bit.
        Unavailable: the clean process could not be run or ran out of time.
    """
    round_trip_all((Trip(folder, model, images),))


def round_trip_all(trips: Sequence[Trip], *, progress: Progress | None = None, seconds: float | None = None) -> None:
    """Several round trips in one clean process, since starting torch is most of the cost.

    Raises:
        Refused: with every reason of every folder.
        Unavailable: the clean process could not be run, or ran longer than ``seconds``.
    """
    if not trips or any(len(trip.images) < 2 for trip in trips):
        raise Refused("a round trip needs at least one folder, and two images for two batch sizes")
    reasons = [_named(trip, reason) for trip in trips for reason in inspect_folder(trip.folder)]
    if reasons:
        raise Refused("these files are not admitted", reasons)
    limit = START_SECONDS + TRIP_SECONDS * len(trips) if seconds is None else seconds
    if progress is None:
        reasons = _compare(trips, limit, lambda: None)
    else:
        with progress.step("reload in a clean process", len(trips)) as tick:
            reasons = _compare(trips, limit, tick)
    if reasons:
        raise Refused("the saved files, loaded in a clean process, are not the model that was saved", reasons)


def _compare(trips: Sequence[Trip], limit: float, on_answer: Callable[[], None]) -> list[str]:
    with scratch_folder() as scratch:
        answers = run_clean(
            "auditsvc.importing.subprocess_roundtrip", _job(trips, scratch), scratch, seconds=limit, on_answer=on_answer
        )
        if len(answers) != len(trips):
            raise Unavailable(f"the clean process answered {len(answers)} of {len(trips)} folders")
        reasons: list[str] = []
        for number, (trip, said) in enumerate(zip(trips, answers, strict=True)):
            found = said["reasons"] or _differences(trip, load_file(scratch / f"{number}.safetensors"))
            reasons += [_named(trip, reason) for reason in found]
        return reasons


def _job(trips: Sequence[Trip], scratch: Path) -> dict[str, object]:
    """The child's job; images that several trips share are written once."""
    written: dict[int, str] = {}
    parts = []
    for trip in trips:
        name = written.setdefault(id(trip.images), str(scratch / f"images-{len(written)}.safetensors"))
        if not Path(name).exists():
            save_file({"images": trip.images.detach().cpu().contiguous()}, name)
        parts.append({"folder": str(trip.folder.absolute()), "images": name, "sizes": list(trip.sizes)})
    return {"threads": torch.get_num_threads(), "trips": parts}


def _differences(trip: Trip, reloaded: dict[str, Tensor]) -> list[str]:
    """Every way in which the reloaded outputs are not those of the model that was saved."""
    reasons: list[str] = []
    images = trip.images.detach().cpu().contiguous().clone()
    for size in trip.sizes:
        with torch.inference_mode():
            wanted = trip.model(images[:size]).contiguous()
        found = reloaded.get(str(size), torch.empty(0))
        if not bool(torch.isfinite(wanted).all()):
            reasons.append(f"batch of {size}: the model itself gives NaN or infinity")
        if not bool(torch.isfinite(found).all()):
            reasons.append(f"batch of {size}: the reloaded model gives NaN or infinity")
        if wanted.shape != found.shape or wanted.dtype != found.dtype:
            reasons.append(f"batch of {size}: outputs are {_shape(found)}, not {_shape(wanted)}")
        elif len(wanted) != size:
            reasons.append(f"batch of {size}: {len(wanted)} outputs; one for each image is needed")
        elif wanted.numpy().tobytes() != found.numpy().tobytes():
            gap = float((wanted.double() - found.double()).abs().max())
            reasons.append(f"batch of {size}: outputs differ (largest difference {gap:.3g})")
    return reasons


def _shape(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _named(trip: Trip, reason: str) -> str:
    return f"{trip.folder.name}: {reason}"
