"""PNG masks: a folder of images and a folder of masks with the same names, as semantic segmentation is often kept.

Each mask has a number for each pixel.  Masks of two numbers, 0 and another, have a background and a foreground.  The
names of more classes are in ``classes.txt``, one a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from auditsvc.datasets.description import Description
from auditsvc.datasets.image_dataset import Content, ContentReader
from auditsvc.datasets.images import SUFFIXES, UNREADABLE
from auditsvc.datasets.readers import Recognition, name_from
from auditsvc.datasets.table import Row, raise_faults
from auditsvc.datasets.targets import upright_mask
from auditsvc.tasks.segmentation import IGNORED

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
MASK_FOLDERS = ("masks", "mask", "segmentationclass", "annotations", "labels")
"""Names of the two folders, without regard to case."""

NAMES = "classes.txt"


class MaskReader(ContentReader):
    """Reads ``images/`` and ``masks/`` with the same file names, whatever their suffixes."""

    format = "masks"
    expects = "a folder images and a folder masks, with the same file names"

    def recognises(self, path: Path) -> Recognition | None:
        """By the two folders."""
        found = _folders(path)
        return Recognition(f"{found[0].name} and {found[1].name}") if found else None

    def content(self, path: Path) -> Content:
        """A row for each image that has a mask."""
        images, masks = (_by_stem(folder) for folder in _folders(path) or ())
        twice = [f"{files[0].parent.name} has several files named {stem}: {', '.join(file.name for file in files)}"
                 for found in (images, masks) for stem, files in found.items() if len(files) > 1]  # fmt: skip
        raise_faults(f"the data set {path} can't be used", twice)
        left_out = {
            "has no mask": [files[0].name for stem, files in images.items() if stem not in masks],
            "is a mask without an image": [files[0].name for stem, files in masks.items() if stem not in images],
        }
        images = {stem: files for stem, files in images.items() if stem in masks}
        rows = [
            {"image": images[stem][0].relative_to(path).as_posix(), "mask": masks[stem][0].relative_to(path).as_posix()}
            for stem in images
        ]
        classes, foreground, notes = _classes(path, [masks[stem][0] for stem in images])
        description = Description(
            name=name_from(path), task="segmentation", target="mask", classes=classes, foreground=foreground,
            source=str(path), licence="not stated",
        )  # fmt: skip
        made = tuple(Row(number, row) for number, row in enumerate(rows, 1))
        return Content(path, description, made, left_out=left_out, notes=notes)


def _folders(path: Path) -> tuple[Path, Path] | None:
    if not path.is_dir():
        return None
    there = {one.name.casefold(): one for one in path.iterdir() if one.is_dir()}
    images, masks = ([there[name] for name in names if name in there] for names in (IMAGE_FOLDERS, MASK_FOLDERS))
    return (images[0], masks[0]) if images and masks and any(masks[0].glob("*.png")) else None


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The image files of a folder by their names without suffix, and without ``_mask`` at the end."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES:
            found.setdefault(file.stem.removesuffix("_mask"), []).append(file)
    return found


def _classes(path: Path, masks: Sequence[Path]) -> tuple[tuple[str, ...], bool, tuple[str, ...]]:
    """The names of the classes, whether everything but 0 is the second one, and what was assumed."""
    numbers: set[int] = set()
    faults = []
    for mask in masks:
        try:
            numbers |= {*np.unique(upright_mask(mask)).tolist()}
        except UNREADABLE as error:
            faults.append(f"mask {mask.name} can't be read: {error}")
    raise_faults(f"the data set {path} can't be used", faults)
    if (path / NAMES).is_file():
        lines = (path / NAMES).read_text("utf-8").splitlines()
        return tuple(line.strip() for line in lines if line.strip()), False, ()
    if len(numbers) <= 2 and 0 in numbers:
        return ("background", "foreground"), True, ("masks: 0 is background, everything else foreground",)
    most = max(numbers - {IGNORED}, default=1)
    names = tuple(f"class-{number}" for number in range(most + 1))
    return names, False, (f"masks: the classes have no names; write them in {NAMES}, one a line",)
