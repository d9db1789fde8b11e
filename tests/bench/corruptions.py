"""Images per CPU second of every corruption beside imagecorruptions and kornia, and the tolerance table.

``python -m tests.bench.corruptions``.  ``imagecorruptions-imaug`` (with opencv, scikit-image and numba) and kornia
are peers, not dependencies: put them on the path.  Everything runs in one thread at severity 3 of the ImageNet
parameters, on the same images; the fastest of some repeats counts, for them as for us.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.perturbations.corruptions import ALIKE, CORRUPTIONS, EXACT, corrupt

BATCH = {32: 128, 224: 8}
THEIRS = {32: 40, 224: 4}
KORNIA: dict[str, Callable[..., object]] = {
    "gaussian_noise": lambda made: made.RandomGaussianNoise(std=0.18, p=1.0),
    "gaussian_blur": lambda made: made.RandomGaussianBlur((13, 13), (3.0, 3.0), p=1.0),
    "motion_blur": lambda made: made.RandomMotionBlur(31, 45.0, 1.0, p=1.0),
    "brightness": lambda made: made.RandomBrightness((1.3, 1.3), p=1.0),
    "contrast": lambda made: made.RandomContrast((0.2, 0.2), p=1.0),
    "saturate": lambda made: made.RandomSaturation((2.0, 2.0), p=1.0),
    "impulse_noise": lambda made: made.RandomSaltAndPepperNoise(0.09, 0.5, p=1.0),
    "elastic_transform": lambda made: made.RandomElasticTransform(p=1.0),
    "jpeg_compression": lambda made: made.RandomJPEG((15.0, 15.0), p=1.0),
}


def pictures(count: int, size: int) -> Tensor:
    """Smooth pictures in whole bytes, ``(count, 3, size, size)``."""
    coarse = torch.rand(count, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    fine = functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


def rate(work: Callable[[], object], images: int, least: float = 0.2) -> float:
    """Images per CPU second: the best of at least three repeats and ``least`` seconds."""
    work()
    best, spent, repeats = 0.0, 0.0, 0
    while repeats < 3 or spent < least:
        start = time.process_time()
        work()
        seconds = time.process_time() - start
        best, spent, repeats = max(best, images / max(seconds, 1e-9)), spent + seconds, repeats + 1
    return best


def as_pillow(images: Tensor) -> list[Image.Image]:
    """The images as the peers want them."""
    stored = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return [Image.fromarray(image) for image in stored]


def theirs(module: object, name: str, images: list[Image.Image], severity: int) -> np.ndarray:
    """The authors' corruption, ``(N, H, W, 3)`` in 0..255, before it is cut to bytes."""
    work = getattr(module, name)
    return np.stack([np.asarray(work(image, severity=severity), dtype=np.float64) for image in images])


def speeds(module: object, kornia: object | None, size: int) -> dict[str, dict[str, float]]:
    """Rates of ours, theirs and kornia's for every corruption at one size."""
    images = pictures(BATCH[size], size)
    seeds = image_seeds(1, "bench", torch.arange(len(images)))
    few = as_pillow(images[: THEIRS[size]])
    table = {}
    for name in CORRUPTIONS:
        with torch.inference_mode():
            mine = rate(lambda name=name: corrupt(images, seeds, name=name, severity=3, table="imagenet"), len(images))
        other = rate(lambda name=name: theirs(module, name, few, 3), len(few))
        line = {"ours": round(mine), "imagecorruptions": round(other), "speedup": round(mine / other, 2)}
        if kornia is not None and name in KORNIA:
            layer = KORNIA[name](kornia)
            line["kornia"] = round(rate(lambda layer=layer: layer(images), len(images)))
        table[name] = line
        print(size, name, line, file=sys.stderr, flush=True)
    return table


def tolerances(module: object, images: int) -> dict[str, dict[str, float | bool]]:
    """How far ours lie from the authors' over all severities: mean difference, or change in mean and spread."""
    some = pictures(images, 32)
    seeds = image_seeds(2, "tolerance", torch.arange(images))
    before, table = some.double() * 255, {}
    np.random.seed(0)
    for name in CORRUPTIONS:
        worst = 0.0
        for severity in range(1, 6):
            mine = corrupt(some, seeds, name=name, severity=severity, table="imagenet").double() * 255
            other = torch.from_numpy(theirs(module, name, as_pillow(some), severity)).permute(0, 3, 1, 2)
            if name in EXACT:
                worst = max(worst, float((mine - other).abs().mean()))
            else:
                changes = [(found - before).abs().mean(dim=(1, 2, 3)) for found in (mine, other)]
                spreads = [(found - before).std() for found in (mine, other)]
                worst = max(worst, abs(float(changes[0].mean() / changes[1].mean()) - 1))
                worst = max(worst, abs(float(spreads[0] / spreads[1]) - 1))
        limit = EXACT.get(name) or ALIKE[name]
        table[name] = {"exact": name in EXACT, "found": round(worst, 4), "limit": limit, "within": worst <= limit}
        print(name, table[name], file=sys.stderr, flush=True)
    return table


def main() -> None:
    """Run all and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=200, help="images for the tolerance table")
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    module = importlib.import_module("imagecorruptions.corruptions")
    try:
        kornia = importlib.import_module("kornia.augmentation")
    except ImportError:
        kornia = None
    tables = {size: speeds(module, kornia, size) for size in (32, 224)}
    near = tolerances(module, given.images)
    result: dict[str, object] = {}
    for size, table in tables.items():
        ups = [line["speedup"] for line in table.values()]
        result[f"median_speedup_{size}"], result[f"min_speedup_{size}"] = statistics.median(ups), min(ups)
    result["within_tolerance"] = sum(bool(line["within"]) for line in near.values())
    result["corruptions"] = len(near)
    print(json.dumps({**result, "speeds": tables, "tolerances": near}, indent=2))


if __name__ == "__main__":
    main()
