"""ImageFolder: one folder of images for each class, as torchvision and Keras read it."""

from __future__ import annotations

from pathlib import Path

from auditsvc.datasets.description import Description
from auditsvc.datasets.image_dataset import Content, ContentReader
from auditsvc.datasets.images import SUFFIXES
from auditsvc.datasets.masks import IMAGE_FOLDERS, MASK_FOLDERS
from auditsvc.datasets.readers import Recognition, evaluation_split, name_from
from auditsvc.datasets.table import Row


class ImageFolderReader(ContentReader):
    """Folders are classes, in the order of their names; of ``train``, ``val`` and ``test`` one part is read."""

    format = "image-folder"
    expects = "at least two folders with images, one for each class"

    def recognises(self, path: Path) -> Recognition | None:
        """By folders with images."""
        _, classes = _classes(path)
        named = {name.casefold() for name in classes}
        if len(classes) < 2 or named & set(IMAGE_FOLDERS) or named & set(MASK_FOLDERS):
            return None
        return Recognition(f"{len(classes)} folders with images: {', '.join(list(classes)[:5])}")

    def content(self, path: Path) -> Content:
        """A row for each image, named by its folder and file."""
        part, classes = _classes(path)
        rows = [
            {"image": file.relative_to(part).as_posix(), "label": name} for name, files in classes.items()
            for file in files
        ]  # fmt: skip
        description = Description(
            name=name_from(path), task="classification", target="label", classes=tuple(classes), source=str(path),
            licence="not stated",
        )  # fmt: skip
        notes = [] if part == path else [f"the part {part.name} was chosen of {', '.join(_folders(path))}"]
        loose = [file.name for file in part.iterdir() if file.suffix.lower() in SUFFIXES]
        notes += [f"left out: {len(loose)} images in no class's folder: {', '.join(loose[:3])}"] if loose else []
        made = tuple(Row(number, row) for number, row in enumerate(rows, 1))
        return Content(part, description, made, notes=tuple(notes))


def _folders(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")) \
        if path.is_dir() else []  # fmt: skip


def _classes(path: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder whose folders are classes, and the images of each."""
    names = _folders(path)
    split = evaluation_split(names)
    part = path if split is None else path / split
    found = {name: _images(part / name) for name in _folders(part)}
    return part, {name: files for name, files in found.items() if files}


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
