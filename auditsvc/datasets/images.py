"""Image decoding: one file for each image, or all of them in one ``images.npz``."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from auditsvc.datasets.description import Description
from auditsvc.datasets.table import Row
from auditsvc.errors import InvalidDataset

DECODED_CACHE_BYTES = 256 * 2**20
"""Decoded images are cached in memory up to this size in bytes; the rest is decoded again in every pass."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no image, or a broken one."""


class Images(Protocol):
    """Pixels by number; ``size`` is the height and width of each."""

    size: tuple[int, int]

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's content, hexadecimal."""
        ...

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(N, H, W, C)``.  Raises ``InvalidDataset`` for an image that can't be decoded."""
        ...


class ImageFiles:
    """One file for each image, scaled to ``size`` (height, width) if that is given; a cache holds decoded images.

    Where some are in colour, grey ones have three equal channels.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], faults: list[str], size: tuple[int, int] | None = None
    ) -> None:
        self._paths = [folder / name for name in names]
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        shapes = [self._shape_of(path, faults) for path in self._paths]
        there = [shape for shape in shapes if shape]
        self.size = size or next((shape[:2] for shape in there), (1, 1))
        self._grey = all(shape[2] == 1 for shape in there)
        faults += [
            f"image {name} is {shape[:2]}, the first one {self.size} (height, width); give a size to scale them to"
            for name, shape in zip(names, shapes, strict=True)
            if shape and size is None and shape[:2] != self.size
        ]
        self.digests = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self._paths if not faults)

    @staticmethod
    def _shape_of(path: Path, faults: list[str]) -> tuple[int, int, int] | None:
        """Height, width and channels, from the file header."""
        try:
            with Image.open(path) as image:
                return image.height, image.width, 1 if image.mode == "L" else 3
        except FileNotFoundError:
            faults.append(f"image {path.name} does not exist")
        except UNREADABLE as error:
            faults.append(f"image {path.name} can't be read: {error}")
        return None

    def _decode(self, number: int) -> NDArray[np.uint8]:
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        path = self._paths[number]
        try:
            with Image.open(path) as opened:
                image = opened.convert("L" if self._grey else "RGB")
                if image.size != self.size[::-1]:
                    image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
                pixels = np.asarray(image)
        except UNREADABLE as error:
            raise InvalidDataset(f"the image {path} can't be read: {error}") from error
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self._bytes + pixels.nbytes <= DECODED_CACHE_BYTES:
            self._cache[number] = pixels
            self._bytes += pixels.nbytes
        return pixels

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(N, H, W, C)``."""
        return np.stack([self._decode(int(number)) for number in numbers])


class ImageArray:
    """All images in one ``images.npz``, array ``images``: ``(N, H, W)`` or ``(N, H, W, C)`` uint8."""

    def __init__(self, path: Path, total: int, rows: NDArray[np.int64], faults: list[str]) -> None:
        self._pixels, self.size = np.zeros((len(rows), 1, 1, 1), np.uint8), (1, 1)
        try:
            with np.load(path, allow_pickle=False) as archive:
                pixels = archive["images"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            faults.append(f"{path.name} can't be read: {error}")
            return
        fits = pixels.dtype == np.uint8 and (pixels.ndim == 3 or (pixels.ndim == 4 and pixels.shape[-1] in (1, 3)))
        if not fits or len(pixels) != total:
            faults.append(
                f"{path.name} holds {pixels.dtype} {pixels.shape}; expected uint8 ({total}, H, W) or ({total}, H, W, 1 "
                "or 3), one image for every row of the metadata"
            )
            return
        chosen = pixels[rows]
        self._pixels = chosen[..., None] if chosen.ndim == 3 else chosen
        self.size = (self._pixels.shape[1], self._pixels.shape[2])

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's pixels."""
        return tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in self._pixels)

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(N, H, W, C)``."""
        pixels: NDArray[np.uint8] = self._pixels[numbers]
        return pixels


def open_images(
    folder: Path, table: Sequence[Row], kept: NDArray[np.int64], description: Description, faults: list[str]
) -> tuple[tuple[str, ...], Images]:
    """The names of the selected images and their pixels; every image of the folder needs a row."""
    column = description.image
    if (folder / "images.npz").is_file():
        if description.size or description.annotations:
            faults.append("images.npz goes with neither a size nor annotations: those are for image files")
        return tuple(f"#{number}" for number in kept), ImageArray(folder / "images.npz", len(table), kept, faults)
    every = [row[column] for row in table]
    names = tuple(every[number] for number in kept)
    own = _faults_of_names(table, every)
    if own:
        names = ()
    else:
        own += [
            f"image {path.name} has no row in the metadata" for path in _unlisted_images([folder / n for n in every])
        ]
    images = ImageFiles(folder, names, own, description.size)
    faults += own
    return names, images


def _faults_of_names(table: Sequence[Row], names: Sequence[str]) -> list[str]:
    faults = [f"row {row.line}: no image is named" for row, name in zip(table, names, strict=True) if not name]
    counted = Counter(name for name in names if name)
    faults += [f"image {name} is named by {times} rows" for name, times in counted.items() if times > 1]
    outside = [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]
    return faults + [f"image {name} is outside the folder" for name in outside]


def _unlisted_images(paths: Sequence[Path]) -> list[Path]:
    """Image files in the same folders that no row names."""
    named = {path.resolve() for path in paths}
    beside = [path for parent in sorted({path.parent for path in paths}) for path in sorted(parent.glob("*"))]
    return [path for path in beside if path.suffix.lower() in _SUFFIXES and path.resolve() not in named]
