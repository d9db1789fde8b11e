"""Planted truths in the shipped data: what ``datasets.copies`` and confident learning find of them, beside peers.

Prints one line of JSON: recall of planted copies by kind (faces and digits of the demo), false pairs in 10^6
comparisons, error of the estimated label noise, leaks that the gate refuses, CPU-seconds for 10^4 and 10^5 images.

    python -m tests.bench.data_quality [--large]
"""

from __future__ import annotations

import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from auditsvc.datasets.copies import fingerprints, image_groups, near_pairs
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.metrics.label_noise import out_of_fold, suspects
from auditsvc.services.holdout import record_images_seen, require_unseen
from tests.contracts.sample import a_candidate
from tests.services.line import ports_in

DEMO = Path(__file__).parents[2] / "auditsvc" / "demo"
PLANTED = 100
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def _saved(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).copy()


def _cropped(image: Image.Image, chance: np.random.Generator) -> Image.Image:
    """A window of 80 to 98 % of each side, anywhere, scaled to the old size."""
    side, (width, height) = chance.uniform(0.8, 0.98), image.size
    left, top = (1 - side) * width * chance.uniform(), (1 - side) * height * chance.uniform()
    box = (round(left), round(top), round(left + side * width), round(top + side * height))
    return image.crop(box).resize(image.size, Image.Resampling.BILINEAR)


def _scaled(image: Image.Image, _chance: np.random.Generator) -> Image.Image:
    """To three quarters and back; twice as large and back where there are few pixels."""
    factor = 0.75 if min(image.size) >= 64 else 2
    small = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


COPIES: dict[str, Change] = {
    "exact": lambda image, _: image.copy(),
    "resized": _scaled,
    "re-encoded": lambda image, _: _saved(image, 50),
    "mirrored": lambda image, _: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": _cropped,
    "darkened": lambda image, chance: ImageEnhance.Brightness(image).enhance(chance.uniform(0.4, 0.8)),
}


def pictures(name: str, most: int) -> list[Image.Image]:
    """Images of the demo."""
    if name == "digits":
        with np.load(DEMO / "digits" / "images.npz") as archive:
            return [Image.fromarray(pixels.squeeze()) for pixels in archive["images"][:most]]
    return [Image.open(path).copy() for path in sorted((DEMO / name / "images").iterdir())[:most]]


def folder_of(images: list[Image.Image], folder: Path, first: str = "a") -> Path:
    """An ImageFolder of two classes."""
    for number, image in enumerate(images):
        place = folder / (first if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{number:06d}.png")
    return folder


def copies(name: str, most: int, work: Path) -> tuple[dict[str, float], int, int]:
    """Recall by kind; pairs that are found and were not planted; comparisons."""
    chance, images = np.random.default_rng(3), pictures(name, most)
    whole = fingerprints(DatasetReaders().open(folder_of(images, work / name)))
    names = sorted(range(len(images)), key=lambda one: ("b" if one % 2 == 0 else "a", one))
    one, other = near_pairs(whole.thumbnails, whole.thumbnails)
    false, compared = len({tuple(sorted(pair)) for pair in zip(one.tolist(), other.tolist(), strict=True)}), 0
    known = {(a, b) for a, b in zip(one.tolist(), other.tolist(), strict=True)}
    compared += len(images) * (len(images) - 1) // 2
    recall = {}
    for kind, change in COPIES.items():
        planted = [change(image, chance) for image in images[:PLANTED]]
        found = fingerprints(DatasetReaders().open(folder_of(planted, work / f"{name}-{kind}")))
        ours, theirs = near_pairs(found.thumbnails, whole.thumbnails)
        order = sorted(range(PLANTED), key=lambda one: ("b" if one % 2 == 0 else "a", one))
        pairs = [(order[a], names[b]) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
        hits = {a for a, b in pairs if a == b} | {
            order[place] for place in np.flatnonzero(np.isin(found.digests, whole.digests))
        }
        recall[kind] = len(hits) / PLANTED
        place = {number: at for at, number in enumerate(names)}
        false += len({(a, b) for a, b in pairs if a != b and (place[a], place[b]) not in known})
        compared += PLANTED * (len(images) - 1)
    return recall, false, compared


def noise() -> Iterator[tuple[float, dict[str, float]]]:
    """Error of the estimate in points, precision and recall, at 5, 10 and 20 % of flipped labels of the digits."""
    with np.load(DEMO / "digits" / "images.npz") as archive:
        pixels = archive["images"][:4000].squeeze()
    labels = _digit_labels(len(pixels))
    features = pixels.reshape(len(pixels), -1).astype(float)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for share in (0.05, 0.1, 0.2):
        chance = np.random.default_rng(int(100 * share))
        wrong = chance.random(len(labels)) < share
        given = np.where(wrong, (labels + chance.integers(1, 10, len(labels))) % 10, labels)
        said = out_of_fold(features, given, 10)
        found = suspects(said, given)
        line = {
            "error_pp": 100 * abs(float(found.mean()) - float(wrong.mean())),
            "precision": float(wrong[found].mean()),
            "recall": float(found[wrong].mean()),
        }
        if find_spec("cleanlab"):
            line |= _cleanlab(given, said, wrong)
        yield share, {name: round(number, 4) for name, number in line.items()}


def _digit_labels(images: int) -> NDArray[np.int64]:
    import csv

    with (DEMO / "digits" / "metadata.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:images]
    return np.array([int(row["label"]) for row in rows])


def _cleanlab(given: NDArray[np.int64], said: NDArray[np.float64], wrong: NDArray[np.bool_]) -> dict[str, float]:
    from cleanlab.filter import find_label_issues

    found = find_label_issues(given, said, filter_by="prune_by_noise_rate", n_jobs=1)
    return {
        "cleanlab_error_pp": 100 * abs(float(found.mean()) - float(wrong.mean())),
        "cleanlab_precision": float(wrong[found].mean()),
        "cleanlab_recall": float(found[wrong].mean()),
    }


def dataeval(name: str, most: int) -> dict[str, float]:
    """The recall of DataEval's hashes on the same copies."""
    if not find_spec("dataeval"):
        return {}
    from dataeval.core import phash, phash_d4, xxhash

    chance, images = np.random.default_rng(3), pictures(name, most)

    def keys(image: Image.Image) -> set[str]:
        pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        return {xxhash(pixels), phash(pixels), phash_d4(pixels)} - {""}

    known = [keys(image) for image in images[:PLANTED]]
    return {
        kind: sum(bool(keys(change(image, chance)) & mine) for image, mine in zip(images, known, strict=False))
        / PLANTED
        for kind, change in COPIES.items()
    }


def leaks(work: Path) -> tuple[int, int]:
    """Data sets with a planted copy of a training image, and how many of them an audit refuses."""
    ctx, chance = ports_in(work / "store"), np.random.default_rng(5)
    images = pictures("faces", 400)
    train = ctx.datasets.open(folder_of(images[:200], work / "train"))
    record_images_seen(ctx, a_candidate().parent, train, "training")
    blocked = 0
    for kind, change in COPIES.items():
        planted = [*images[200:], *(change(image, chance) for image in images[:10])]
        try:
            require_unseen(ctx, a_candidate(), ctx.datasets.open(folder_of(planted, work / f"leak-{kind}")))
        except InvalidInput as refusal:
            blocked += "used for training" in str(refusal)
    return len(COPIES), blocked


def cost(images: int) -> tuple[float, float]:
    """CPU-seconds of grouping this many thumbnails (blended digits, so that each is another image), and peak GB."""
    with np.load(DEMO / "digits" / "images.npz") as archive:
        pixels = archive["images"].squeeze()
    chance = np.random.default_rng(1)
    thumbnails = np.zeros((images, 32, 32), np.uint8)
    for start in range(0, images, 5000):
        one, other = (
            pixels[chance.integers(0, len(pixels), min(5000, images - start))].astype(float) for _ in range(2)
        )
        share = chance.uniform(0.3, 0.7, (len(one), 1, 1))
        thumbnails[start : start + 5000, 2:30, 2:30] = (share * one + (1 - share) * other).astype(np.uint8)
    began = time.process_time()
    image_groups(np.arange(images).astype(np.uint64), thumbnails)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return round(time.process_time() - began, 1), round(peak, 2)


def main() -> None:
    """Print the line."""
    line: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        work, false, compared, recalls = Path(name), 0, 0, {}
        for data, most in (("faces", 729), ("digits", 1000)):
            recalls[data], wrong, many = copies(data, most, work)
            false, compared = false + wrong, compared + many
        line["recall"] = recalls
        line["duplicate_recall"] = round(
            float(np.mean([one for kinds in recalls.values() for one in kinds.values()])), 4
        )
        line["false_pairs_per_1e6"] = round(1e6 * false / compared, 2)
        line["comparisons"] = compared
        line["dataeval_recall"] = {data: dataeval(data, 200) for data in recalls}
        line["label_noise"] = dict(noise())
        line["label_noise_error_pp_max"] = max(one["error_pp"] for one in dict(noise()).values())
        line["leaks"], line["leaks_blocked"] = leaks(work)
    for images in (10_000, *((100_000,) if "--large" in sys.argv else ())):
        power = len(str(images)) - 1
        line[f"cpu_s_1e{power}"], line[f"peak_gb_1e{power}"] = cost(images)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
