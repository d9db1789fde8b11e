"""COCO: boxes from a JSON file with ``images``, ``categories`` and ``annotations``.

Identifiers are joined exactly: each names one image or category, and each reference names one that is there.

Reference: T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312; the format at https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from auditsvc.datasets.description import Description
from auditsvc.datasets.image_dataset import Content, ContentReader
from auditsvc.datasets.images import counted
from auditsvc.datasets.readers import Recognition, evaluation_split, name_from
from auditsvc.datasets.table import Row, raise_faults
from auditsvc.datasets.targets import Annotations, Box
from auditsvc.errors import InvalidDataset

IMAGE, TRACK = "file_name", "track_id"
"""The fields that name an image's file, and the number of an object in its sequence."""

EDGE_TOLERANCE = 1.0
"""Tolerance in pixels for boxes that exceed their image by rounding."""

_OWN = {IMAGE, "id", "width", "height", "license", "flickr_url", "coco_url", "date_captured"}
"""Fields of an image that make no slices."""


def read_annotations(path: Path, *, tracked: bool) -> Annotations:
    """The images and boxes of a file; ``tracked`` requires the object identities within their sequences.

    Raises:
        InvalidDataset: with every identifier that is there twice or does not exist, every image without a size, and
            every box without an area or outside its image.
    """
    content = _read(path)
    images = {image["id"]: image for image in content["images"]}
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    faults = [*_faults_of_images(content["images"]), *_twice("category", content["categories"], "name")]
    found: dict[str, list[Box]] = {str(image[IMAGE]): [] for image in content["images"]}
    drawn: Counter[tuple[Any, ...]] = Counter()
    for number, one in enumerate(content["annotations"]):
        try:
            image = images[_known("image_id", one, images)]
            box = _box(one, image, names[_known("category_id", one, names)], tracked=tracked)
            found[str(image[IMAGE])].append(box)
            drawn[(image[IMAGE], box.category, box.corners)] += 1
        except KeyError as error:
            faults.append(f"annotation {number}: it has no {error.args[0]}")
        except (TypeError, ValueError) as error:
            faults.append(f"annotation {number}: {error}")
    raise_faults(f"{path} can't be used", faults)
    again = [str(key[0]) for key, times in drawn.items() if times > 1]
    return Annotations(
        path.name,
        tuple(_fields(content["images"])),
        {name: tuple(boxes) for name, boxes in found.items()},
        {str(image[IMAGE]): (image["height"], image["width"]) for image in content["images"]},
        {str(image[IMAGE]): image["id"] for image in content["images"]},
        names,
        (f"{counted(again, drawn.total(), 'boxes')} are given more than once",) if again else (),
    )


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The three lists of a file, each entry with the fields that identify it."""
    try:
        content = json.loads(path.read_text("utf-8"))
        lists = {key: list(content[key]) for key in ("images", "categories", "annotations")}
        for key, field in (("images", IMAGE), ("categories", "name")):
            for entry in lists[key]:
                hash((entry["id"], entry[field]))
        return lists
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise InvalidDataset(f"{path} is not in the COCO format: it lacks {error}") from error


def _faults_of_images(images: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _twice("image", images, IMAGE)
    for image in images:
        if not all(type(image.get(side)) is int and image[side] > 0 for side in ("width", "height")):
            yield f"image {image[IMAGE]} has no size: width and height must be whole numbers of pixels"


def _twice(what: str, entries: Sequence[Mapping[str, Any]], name: str) -> Iterator[str]:
    """Identifiers that two entries share, also as number and text, and names that two have."""
    by_id: dict[str, list[str]] = {}
    for entry in entries:
        by_id.setdefault(str(entry["id"]), []).append(str(entry[name]))
        if isinstance(entry["id"], bool) or not isinstance(entry["id"], int | str):
            yield f"{what} {entry[name]} has the id {entry['id']!r}, which is neither a whole number nor text"
    for key, names in by_id.items():
        if len(names) > 1:
            yield f"{what} id {key} is given {len(names)} times: {', '.join(names)}"
    for key, times in Counter(str(entry[name]) for entry in entries).items():
        if times > 1:
            yield f"{what} {key} is given {times} times"


def _known(field: str, one: Mapping[str, Any], known: Mapping[Any, Any]) -> Any:
    """The identifier in this field, if it is known and of the very type of the known one."""
    key = one[field]
    if isinstance(key, bool) or not isinstance(key, int | str) or key not in known:
        alike = [other for other in known if str(other) == str(key)]
        meant = f", which is {type(key).__name__}; the id is {alike[0]!r}" if alike else " does not exist"
        raise ValueError(f"{field.removesuffix('_id')} {key!r}{meant}")
    return key


def _box(one: Mapping[str, Any], image: Mapping[str, Any], category: str, *, tracked: bool) -> Box:
    box, crowd, track = one["bbox"], one.get("iscrowd", 0), one[TRACK] if tracked else 0
    if not isinstance(box, list) or len(box) != 4 or not all(type(number) in (int, float) for number in box):
        raise ValueError(f"the box {box} on {image[IMAGE]} is not four numbers")
    if not (isinstance(crowd, int) and crowd in (0, 1)):
        raise ValueError(f"iscrowd is {crowd!r} on {image[IMAGE]}; write 0 or 1 as a number")
    if type(track) is not int:
        raise ValueError(f"{TRACK} is {track!r} on {image[IMAGE]}; write a whole number")
    left, top, width, height = box
    full: tuple[Any, Any] = image.get("width"), image.get("height")
    if not all(math.isfinite(number) for number in box) or width <= 0 or height <= 0:
        raise ValueError(f"the box {box} on {image[IMAGE]} has no area; remove it")
    if not all(type(side) is int and side > 0 for side in full):
        raise ValueError(f"the box {box} is on {image[IMAGE]}, which has no size")
    if (
        min(left, top) < -EDGE_TOLERANCE
        or left + width > full[0] + EDGE_TOLERANCE
        or top + height > full[1] + EDGE_TOLERANCE
    ):
        raise ValueError(f"the box {box} is outside {image[IMAGE]}, {full[0]:g} x {full[1]:g}")
    corners = (left / full[0], top / full[1], (left + width) / full[0], (top + height) / full[1])
    first, second, third, fourth = (min(max(number, 0.0), 1.0) for number in corners)
    return Box(category, (first, second, third, fourth), bool(crowd), track)


def _fields(images: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Each image's plain fields as text; one that another image lacks is empty."""
    names = list(dict.fromkeys(name for image in images for name in image))
    for image in images:
        values = ((name, image.get(name)) for name in names)
        yield {name: "" if value is None or isinstance(value, dict | list) else str(value) for name, value in values}


def coco_of(
    names: Sequence[str], boxes: Mapping[str, Sequence[Box]], sizes: Sequence[tuple[int, int]], classes: Sequence[str]
) -> dict[str, Any]:
    """The COCO content of images with these names, boxes, and heights and widths."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    images = [{"id": number, IMAGE: name, "height": size[0], "width": size[1]}
              for number, (name, size) in enumerate(zip(names, sizes, strict=True), 1)]  # fmt: skip
    annotations = [
        {"id": 0, "image_id": image["id"], "category_id": ids[box.category], "iscrowd": int(box.crowd),
         TRACK: box.track, "bbox": [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height],
         "area": (x1 - x0) * width * (y1 - y0) * height}
        for image, (height, width) in zip(images, sizes, strict=True)
        for box in boxes.get(str(image[IMAGE]), ())
        for x0, y0, x1, y1 in [box.corners]
    ]  # fmt: skip
    for number, one in enumerate(annotations, 1):
        one["id"] = number
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": images, "categories": categories, "annotations": annotations}


class CocoReader(ContentReader):
    """Reads a COCO file, or a folder with one; its categories in the order of their numbers are the classes."""

    format = "coco"
    expects = "a JSON file with images, categories and annotations, in it or in its folder annotations"

    def recognises(self, path: Path) -> Recognition | None:
        """By the keys of the JSON file."""
        found = self._files(path)
        return Recognition(found[0].name, declared=path.is_file()) if found else None

    def content(self, path: Path) -> Content:
        """The boxes, with the images where the file or its surroundings have them."""
        files, notes = self._files(path), []
        source = files[0]
        if len(files) > 1:
            chosen = evaluation_split([file.stem for file in files])
            if chosen is None:
                raise InvalidDataset(f"{path} holds several COCO files; name one", [file.name for file in files])
            source = next(file for file in files if file.stem == chosen)
            notes.append(f"{source.name} was chosen of {', '.join(file.name for file in files)}")
        annotations = read_annotations(source, tracked=False)
        categories = sorted(_read(source)["categories"], key=lambda one: one["id"])
        first = annotations.images[0][IMAGE] if annotations.images else ""
        folder = next((place for place in _places(source) if (place / first).is_file()), source.parent)
        rows = [{key: value for key, value in image.items() if key not in _OWN - {IMAGE}}
                for image in annotations.images]  # fmt: skip
        description = Description(
            name=name_from(source.parent if source.parent.name != "annotations" else source.parent.parent),
            task="detection", image=IMAGE, annotations=source.name, slices="auto", source=str(source),
            classes=tuple(str(one["name"]) for one in categories), licence="not stated",
        )  # fmt: skip
        made = tuple(Row(number, row) for number, row in enumerate(rows, 1))
        return Content(folder, description, made, annotations, notes=tuple(notes))

    @staticmethod
    def _files(path: Path) -> list[Path]:
        if path.is_file():
            return [path] if path.suffix == ".json" and _looks_like_coco(path) else []
        found = (file for place in (path, path / "annotations") for file in sorted(place.glob("*.json")))
        return [file for file in found if _looks_like_coco(file)]


def _places(source: Path) -> Iterable[Path]:
    """Where the images of a COCO file usually are: next to it, or in a folder for images or for its part."""
    part = source.stem.rsplit("_", 1)[-1]
    for base in (source.parent, source.parent.parent):
        yield from (base, base / "images", base / part, base / "images" / part)


_HEAD, _TAIL = 2**20, 2**16


def _looks_like_coco(path: Path) -> bool:
    """Whether two of the three keys are in the first or the last bytes of a file, which may be large."""
    with path.open("rb") as stream:
        text = stream.read(_HEAD)
        stream.seek(max(0, path.stat().st_size - _TAIL))
        text += stream.read(_TAIL)
    return sum(key in text for key in (b'"images"', b'"annotations"', b'"categories"')) >= 2
