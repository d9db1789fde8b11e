"""Image decoding: one file for each image, or all of them in one ``images.npz``.

A file is recognised by its content, never by its name, and only in the formats of ``FORMATS``.  ``GREY`` and ``COLOUR``
are the modes that are read; a file in any other mode is refused, as are several frames and numbers without a scale.
Every change that decoding makes is counted in the notes of the data set.
"""

from __future__ import annotations

import copy
import hashlib
import io
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from auditsvc.datasets.description import Description
from auditsvc.datasets.suspicion import Taken
from auditsvc.datasets.table import Row, plain
from auditsvc.errors import InvalidDataset
from auditsvc.models.preprocessing import scaled_to
from auditsvc.records.architecture import ArchitectureCard

DECODED_CACHE_BYTES = 256 * 2**20
"""Decoded images are cached in memory up to this size in bytes; the rest is decoded again in every pass."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Pillow's decoders that may be used; that of JPEG also reads MPO, which phones write."""

MEDIAN_SIDE = 512
"""The longest side at which images of several sizes are compared with each other."""

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is decoded."""

GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
"""Pillow's modes that are read.  16 bits are scaled by 1/257, floats must be in 0..1, palettes become colours."""

TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What turns an image of this EXIF orientation upright."""

GPS, CAMERA = 0x8825, 0x8769
PERSONAL = {0x013B: "an artist", 0x8298: "a copyright holder", 0xA430: "the camera's owner", 0xA431: "a serial number",
            0xA435: "a serial number"}  # fmt: skip
"""EXIF entries that name a person, or a device that a person can be found by."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"}
"""Names of files that count as images when a folder is listed."""

UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for a file that is no image, or a broken one."""


@dataclass(frozen=True)
class Header:
    """Height and width of the upright image, of the stored one, its mode, and its EXIF orientation."""

    shape: tuple[int, int]
    stored: tuple[int, int]
    mode: str
    orientation: int
    alpha: bool
    taken: Taken | None = None
    personal: tuple[str, ...] = ()
    """What the metadata of the file say about a place or a person, in words."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What decoding changes, in words."""
        found = {
            f"turned upright (EXIF orientation {self.orientation})": self.orientation in TURNED,
            "the alpha channel was dropped": self.alpha,
            "16-bit grey was scaled to 8 bits": self.mode.startswith("I"),
            "float grey was scaled to 8 bits": self.mode == "F",
        }
        return tuple(words for words, there in found.items() if there)


def read_header(data: bytes) -> Header:
    """What the image is, without decoding its pixels.

    Raises:
        ValueError: an image that could only be read by guessing, with the reason.
        OSError, SyntaxError: no image of a format in ``FORMATS``.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels; the most are {MAX_PIXELS}")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # the further pictures of an MPO are previews
            raise ValueError(f"{frames} frames; save the one that is meant as a file of its own")
        if image.mode not in (*GREY, *COLOUR):
            raise ValueError(f"the mode {image.mode} is not read; save it as grey or RGB with 8 bits")
        exif = image.getexif()
        orientation = int(exif.get(0x0112, 1))
        alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
        stored = (height, width)
        shape = stored[::-1] if orientation >= 5 and orientation in TURNED else stored
        return Header(shape, stored, image.mode, orientation, alpha, _taken(exif), _personal(exif))


def _taken(exif: Image.Exif) -> Taken | None:
    """The camera and the time of the shot, where EXIF has them."""
    if not exif:
        return None
    try:
        own = exif.get_ifd(0x8769)
        moment = datetime.strptime(str(own.get(0x9003)), "%Y:%m:%d %H:%M:%S")
    except UNREADABLE:
        return None
    return " ".join(str(part) for part in (exif.get(0x010F), exif.get(0x0110), own.get(0xA431))), moment.timestamp()


def _personal(exif: Image.Exif) -> tuple[str, ...]:
    """What of the metadata is personal; metadata that can't be parsed may hold anything."""
    try:
        camera = exif.get_ifd(CAMERA) if CAMERA in exif else {}
        place = exif.get_ifd(GPS) if GPS in exif else {}
    except UNREADABLE:
        return ("entries that can't be read",)
    found = {words for tag, words in PERSONAL.items() if exif.get(tag) or camera.get(tag)}
    return tuple(sorted(found | ({"a GPS position"} if {2, 4} & set(place) else set())))  # latitude, longitude


def decode(data: bytes, *, grey: bool) -> Image.Image:
    """The upright image in mode ``L`` or ``RGB``.

    Raises:
        ValueError: numbers without a known scale.
        OSError, SyntaxError: a broken file.
    """
    header = read_header(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image = _in_8_bits(opened, header.mode).convert("L" if grey else "RGB")
    turn = TURNED.get(header.orientation)
    return image if turn is None else image.transpose(turn)


def _in_8_bits(image: Image.Image, mode: str) -> Image.Image:
    if mode == "F":
        numbers = np.asarray(image, np.float64)
        if not (np.isfinite(numbers).all() and numbers.min() >= 0 and numbers.max() <= 1):
            raise ValueError(f"float values from {numbers.min():g} to {numbers.max():g}; they must be in 0..1")
        return Image.fromarray((numbers * 255).round().astype(np.uint8))
    if mode.startswith("I"):
        numbers = np.asarray(image).astype(np.int64)
        if numbers.min() < 0 or numbers.max() > 65535:
            raise ValueError(f"grey values from {numbers.min()} to {numbers.max()}; at most 16 bits are read")
        return Image.fromarray((numbers / 257).round().astype(np.uint8))
    return image


def as_png(pixels: NDArray[np.uint8], side: int | None = None) -> bytes:
    """``(H, W, C)`` as a PNG, scaled down to ``side`` pixels where it is larger."""
    picture, out = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), io.BytesIO()
    if side is not None:
        picture.thumbnail((side, side))
    picture.save(out, format="PNG")
    return out.getvalue()


class Images(Protocol):
    """Pixels by number; ``size`` is the height and width of each."""

    size: tuple[int, int]
    headers: Sequence[Header]
    """One for each image file; none where all are in one array."""
    notes: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image's content, hexadecimal."""
        ...

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(N, H, W, C)``.  Raises ``InvalidDataset`` for an image that can't be decoded."""
        ...


class ImageFiles:
    """One file for each image; a cache holds decoded images.  Where some are in colour, or the description asks for
    three channels, grey ones have three equal channels.

    ``size`` (height, width) is that of all images, or of the description, which scales them.  Images of ``several``
    sizes are scaled for a model as its card says; whatever needs no model sees them at their median size.
    """

    def __init__(
        self, names: Sequence[str], load: Callable[[int], bytes], faults: list[str], description: Description
    ) -> None:
        self._names, self.load = names, load
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        found: list[tuple[str, Header]] = []
        digests: list[str] = []
        own: list[str] = []
        for number, name in enumerate(names):
            try:
                data = load(number)
                found.append((name, read_header(data)))
                if found[-1][1].mode in ("F", "I"):
                    decode(data, grey=True)  # whether the numbers have a scale shows only there
                digests.append(hashlib.sha256(data).hexdigest())
            except FileNotFoundError:
                own.append(f"image {name} does not exist")
            except UNREADABLE as error:
                own.append(f"image {name} can't be read: {error}")
        headers = [header for _, header in found]
        self.several = description.size is None and len({header.shape for header in headers}) > 1
        self._card: ArchitectureCard | None = None
        self.size = description.size or _median_size([header.shape for header in headers])
        greys = sum(header.mode in GREY for header in headers)
        self._grey = description.channels == 1 or (description.channels is None and greys == len(headers))
        self.headers: Sequence[Header] = [] if own else headers
        self.digests = tuple(digests)
        self.notes = () if own else _notes(names, headers, greys)
        if self.several and not own:
            sizes = sorted({header.shape for header in headers})
            ends = " to ".join(f"{width} x {height}" for height, width in (sizes[0], sizes[-1]))
            self.notes = (*self.notes, f"images of {len(sizes)} sizes ({ends}) are scaled as each model says")
        faults += own

    def scaled_for(self, card: ArchitectureCard) -> ImageFiles:
        """The same images as this model takes them, where they have several sizes."""
        if not self.several:
            return self
        made = copy.copy(self)
        made._cache, made._bytes, made._card = {}, 0, card
        made.size = (card.input.height, card.input.width)
        return made

    def _decode(self, number: int) -> NDArray[np.uint8]:
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        try:
            data = self.load(number)
            if hashlib.sha256(data).hexdigest() != self.digests[number]:
                raise InvalidDataset(f"the image {self._names[number]} was changed after the data set was opened")
            image = decode(data, grey=self._grey)
        except UNREADABLE as error:
            raise InvalidDataset(f"the image {self._names[number]} can't be read: {error}") from error
        if self._card is None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self._card is not None:
            scaled = scaled_to(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255, self._card)
            pixels = (scaled * 255).round().byte()[0].permute(1, 2, 0).numpy()
        if self._bytes + pixels.nbytes <= DECODED_CACHE_BYTES:
            self._cache[number] = pixels
            self._bytes += pixels.nbytes
        return pixels

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """``(N, H, W, C)``."""
        return np.stack([self._decode(int(number)) for number in numbers])


def _median_size(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size of all images; of several sizes the median height and width, at most ``MEDIAN_SIDE``."""
    if len(set(shapes)) < 2:
        return shapes[0] if shapes else (1, 1)
    middle = np.median(np.array(shapes), axis=0)
    height, width = (middle * min(1.0, MEDIAN_SIDE / middle.max())).round().astype(int).tolist()
    return max(height, 1), max(width, 1)


def _notes(names: Sequence[str], headers: Sequence[Header], greys: int) -> tuple[str, ...]:
    changed: dict[str, list[str]] = {}
    for name, header in zip(names, headers, strict=True):
        for change in header.changes:
            changed.setdefault(change, []).append(name)
        for words in header.personal:
            changed.setdefault(f"{words} in EXIF; reports show the pixels alone", []).append(name)
    if 0 < greys < len(headers):
        changed["grey images among colour ones, read as three equal channels"] = [
            name for name, header in zip(names, headers, strict=True) if header.mode in GREY
        ]
    return tuple(f"{counted(found, len(names))}: {change}" for change, found in changed.items())


def counted(names: Sequence[str], total: int, what: str = "images") -> str:
    """``3 of 40 images (a.png, b.png, c.png)``: a count with the first names."""
    shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} of {total} {what} ({shown})"


class ImageArray:
    """All images in one ``images.npz``, array ``images``: ``(N, H, W)`` or ``(N, H, W, C)`` uint8."""

    headers: Sequence[Header] = ()
    notes: tuple[str, ...] = ()

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


@dataclass
class Join:
    """Image files and rows, one to one; ``left_out`` are those that have no counterpart, by kind."""

    paths: Mapping[str, Path]
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """One line for each, and what to do; none if everything has its counterpart."""
        found = [f"image {name} {what}" for what, names in self.left_out.items() for name in names]
        if found:
            counts = ", ".join(f"{len(names)} {what}" for what, names in self.left_out.items())
            found.insert(0, f"images: {counts}; correct the names, or write `unmatched: skip` to leave them out")
        return found

    def notes(self) -> tuple[str, ...]:
        """What was left out, with counts."""
        return tuple(f"left out: {len(names)} images ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}): {what}"
                     for what, names in self.left_out.items())  # fmt: skip


NO_FILE, NO_ROW = "does not exist", "has no row in the metadata"


def join_files(folder: Path, rows: Sequence[Row], column: str, faults: list[str]) -> Join:
    """The file of each row's image, by the name in ``column``; what has no counterpart is in ``left_out``.

    Names that differ in their Unicode form alone are the same name.
    """
    names = [row[column] for row in rows]
    own = [f"row {row.line}: no image is named" for row, name in zip(rows, names, strict=True) if not name]
    tally = Counter(name for name in names if name)
    own += [f"image {name} is named by {times} rows" for name, times in tally.items() if times > 1]
    outside = [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]
    own += [f"image {name} is outside the folder" for name in outside]
    faults += own
    if own:
        return Join({name: folder / name for name in names})
    listed = {plain(path.relative_to(folder).as_posix()): path for path in _image_files(folder, names)}
    paths = {name: path if (path := folder / name).is_file() else listed.get(plain(name), path) for name in names}
    named = {path.resolve() for path in paths.values()}
    missing = [name for name, path in paths.items() if not path.is_file()]
    unlisted = [name for name, path in listed.items() if path.resolve() not in named]
    return Join(paths, {what: found for what, found in ((NO_FILE, missing), (NO_ROW, unlisted)) if found})


def _image_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """The image files of every folder that a row names."""
    parents = sorted({(folder / name).parent for name in names})
    found = (path for parent in parents for path in sorted(parent.glob("*")))
    return [path for path in found if path.suffix.lower() in SUFFIXES]
