"""Peak memory of a lighting and occlusion audit of 10^4, 10^5 and 10^6 generated images: it must not grow with them.

``python -m tests.bench.stream``.  Each size runs in a process of its own, whose peak resident memory is read at
the end.  Images are made batch by batch and never kept; the networks are tiny, because their size is not the point.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auditsvc.checks.lighting import Lighting
from auditsvc.checks.occlusion import Occlusion
from auditsvc.datasets import Batch, SliceColumn, Slices
from auditsvc.evaluation import EvalContext, image_seeds, uniform
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.records import DatasetRef, digest_of
from auditsvc.tasks.classification import Classification

SIZES = {"1e4": 10**4, "1e5": 10**5, "1e6": 10**6}
SIDE = 16
CLASSES = ("dark", "bright")


class Generated:
    """Images that are made when they are asked for; implements ``measuring.Dataset``."""

    classes = CLASSES

    def __init__(self, images: int) -> None:
        self.slices = Slices(images, (SliceColumn("part", ("a", "b", "c"), np.arange(images, dtype=np.int32) % 3),))
        self.ref = DatasetRef(
            name="generated", digest=digest_of(str(images).encode()), task="classification", images=images,
            slices=("part",), source="made by the bench", licence="CC0-1.0",
        )  # fmt: skip

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        numbers = range(self.ref.images) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = torch.as_tensor(numbers[start : start + size])
            seeds = image_seeds(0, "images", part)
            level = uniform(seeds, (1, 1, 1), 1)
            images = (0.7 * level + 0.3 * uniform(seeds, (1, SIDE, SIDE), 2)).clamp(0, 1)
            yield Batch(images, (level.flatten() > 0.5).long(), part)

    def target_of(self, index: int) -> int:
        return int(uniform(image_seeds(0, "images", torch.tensor([index])), (1, 1, 1), 1) > 0.5)

    def name_of(self, index: int) -> str:
        return f"#{index}"

    def thumbnail(self, index: int) -> bytes:
        return b""


def network(seed: int) -> Model:
    """A tiny convolutional network that sees brightness, a little differently for each seed."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    spec = InputSpec(channels=1, height=SIDE, width=SIDE)
    return Model(module, ArchitectureCard(architecture="bench", task="classification", classes=CLASSES, input=spec))


def one(images: int) -> dict[str, float]:
    """Audit so many images in this process."""
    torch.set_num_threads(1)
    case = EvalContext(
        candidate=network(1), candidate_digest=digest_of(b"candidate"), parent=network(2),
        parent_digest=digest_of(b"parent"), task=Classification(CLASSES), dataset=Generated(images), seed=1,
        alpha=0.05, batch_size=256,
    )  # fmt: skip
    start, readings = time.perf_counter(), 0
    for check in (Lighting(exposure_stops=(-2, 1)), Occlusion(fractions=(0.1,))):
        readings += sum(1 for _ in check.measure(case))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": round(peak, 1), "images_per_s": round(images / seconds), "readings": readings}


def main() -> None:
    """Run all sizes and print one JSON object; ``images_per_s`` counts images of the largest, not conditions."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--one", type=int, help="audit so many images in this process")
    given = options.parse_args()
    if given.one:
        print(json.dumps(one(given.one)))
        return
    found = {}
    for name, images in SIZES.items():
        command = [sys.executable, "-m", "tests.bench.stream", "--one", str(images)]
        found[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(name, found[name], file=sys.stderr, flush=True)
    peaks = {f"peak_mb_{name}": row["peak_mb"] for name, row in found.items()}
    print(json.dumps({**peaks, "images_per_s": found["1e6"]["images_per_s"]}, indent=2))


if __name__ == "__main__":
    main()
