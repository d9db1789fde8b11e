"""The native format: a folder with ``dataset.yaml``, ``metadata.csv`` (or ``.parquet``), and images or ``images.npz``.

``write_folder`` writes what any reader found in this format.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from auditsvc.datasets.coco import coco_of, read_annotations
from auditsvc.datasets.dataset import Dataset
from auditsvc.datasets.description import Description, description_file, read_description
from auditsvc.datasets.image_dataset import ARRAY, Content, ContentReader, ImageDataset, open_content
from auditsvc.datasets.images import FORMATS, ImageFiles
from auditsvc.datasets.multi_domain import join_domains
from auditsvc.datasets.readers import Recognition
from auditsvc.datasets.table import raise_faults, read_table, table_faults
from auditsvc.datasets.targets import Annotations, upright_boxes
from auditsvc.datasets.yolo import is_yolo
from auditsvc.errors import InvalidDataset, InvalidInput, Unavailable


class FolderReader(ContentReader):
    """Reads the native format: a folder with ``dataset.yaml``, or one of several descriptions (``*.yaml``) in it."""

    format = "folder"
    expects = "a dataset.yaml, or the path of another description (*.yaml)"

    def recognises(self, path: Path) -> Recognition | None:
        """By the description file."""
        source = description_file(path)
        return Recognition(source.name, declared=True) if source.is_file() and not is_yolo(source) else None

    def content(self, path: Path) -> Content:
        """The description, the table and the annotations of a folder."""
        return _content_of(*read_description(path))

    def read(self, path: Path) -> Dataset:
        """Read and check a folder; a description with ``other_domain`` opens both data sets as one (``multi_domain``).

        Raises:
            InvalidDataset: with every fault of the description, the table and the images.
            Unavailable: the folder can't be read.
        """
        content = self.content(path)
        own, domain = open_content(content), content.description.other_domain
        if domain is None:
            return own
        other = self.content(content.folder / domain)
        if other.description.other_domain is not None:
            raise InvalidDataset(f"{domain} names another domain itself; two are compared, not three")
        return join_domains(own, open_content(other))


def _content_of(folder: Path, description: Description) -> Content:
    annotations = None
    if description.annotations is not None:
        annotations = read_annotations(folder / description.annotations, tracked=description.target_kind == "tracks")
    source, (names, rows, faults) = read_table(folder, annotations.images if annotations else ())
    image = () if (folder / ARRAY).is_file() else (description.image,)
    faults = [*table_faults(source or str(description.annotations), names, (*image, *description.columns)), *faults]
    raise_faults(f"the data set {folder} can't be used", faults)
    return Content(folder, description, tuple(rows), annotations)


def write_folder(content: Content, folder: Path) -> Path:
    """Write what a reader found in the native format, with copies of the images; the description's path.

    Raises:
        InvalidInput: the folder is there already, or holds the images in one array.
        InvalidDataset: the content has faults.
        Unavailable: the folder can't be written.
    """
    opened = open_content(content)
    images = opened.images
    if not isinstance(images, ImageFiles):
        raise InvalidInput(f"{content.folder} is in the native format already")
    column = content.description.image
    try:
        folder.mkdir(parents=True)
        names = _write_images(content, opened, images, folder)
        rows = {row[column] if content.embedded is None else f"#{number}": row.fields
                for number, row in enumerate(content.rows)}  # fmt: skip
        kept = [rows[name] | {column: new} for name, new in names.items()]
        with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(kept[0]))
            writer.writeheader()
            writer.writerows(kept)
        fields = content.description.model_dump(mode="json", exclude_defaults=True, exclude={"unmatched"})
        if content.annotations is not None:
            fields["annotations"] = "annotations.json"
            (folder / "annotations.json").write_text(
                json.dumps(_upright_coco(content.annotations, opened, images)), "utf-8"
            )
        (folder / "dataset.yaml").write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), "utf-8")
    except FileExistsError as error:
        raise InvalidInput(f"{folder} is there already; name a new folder") from error
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error}") from error
    return folder / "dataset.yaml"


def _write_images(content: Content, opened: ImageDataset, images: ImageFiles, folder: Path) -> dict[str, str]:
    """Copies images and masks; the new name of each image."""
    names = {}
    masks = content.description.target if content.description.target_kind == "mask" else None
    by_name = {row[content.description.image]: row for row in content.rows} if masks else {}
    for number, name in enumerate(opened.names):
        data = images.load(number)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            suffix = str(image.format).lower()
        names[name] = name if content.embedded is None else f"{number:06d}.{suffix}"
        (folder / names[name]).parent.mkdir(parents=True, exist_ok=True)
        (folder / names[name]).write_bytes(data)
        if masks:
            target = folder / by_name[name][masks]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(content.folder / by_name[name][masks], target)
    return names


def _upright_coco(annotations: Annotations, opened: ImageDataset, images: ImageFiles) -> dict[str, Any]:
    """The boxes on the upright images."""
    pairs = list(zip(opened.names, images.headers, strict=True))
    boxes = {name: upright_boxes(annotations, name, header)[0] for name, header in pairs}
    return coco_of(opened.names, boxes, [header.shape for _, header in pairs], opened.classes)
