"""Boxes from a COCO ``annotations.json``; without a metadata table its images are the rows.

Reference: T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312; the format at https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditsvc.errors import InvalidDataset

IMAGE, TRACK = "file_name", "track_id"
"""The fields that name an image's file, and the number of an object in its sequence."""

MAX_FAULTS = 20
"""The most faults that an error lists; the others are counted."""

EDGE_TOLERANCE = 1.0
"""Tolerance in pixels for boxes that exceed their image by rounding."""


@dataclass(frozen=True)
class Box:
    """One object: category, corners as fractions of the image, whether it is a crowd, number in its sequence."""

    category: str
    corners: tuple[float, float, float, float]
    crowd: bool
    track: int


@dataclass(frozen=True)
class Annotations:
    """All images, each with its fields as text, and the boxes of each by the image's file."""

    images: tuple[dict[str, str], ...]
    boxes: Mapping[str, tuple[Box, ...]]


def read_annotations(path: Path, *, tracked: bool) -> Annotations:
    """The images and boxes of a file; ``tracked`` requires the object identities within their sequences.

    Raises:
        InvalidDataset: with every box without an area, outside its image, or of no image or category that is there.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        images = [dict(image) for image in content["images"]]
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        places = {image["id"]: image for image in images}
        annotated = list(content["annotations"])
        sizes = [(float(image["width"]), float(image["height"]), str(image[IMAGE])) for image in images]
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError) as error:
        raise InvalidDataset(f"{path} is not in the COCO format: it lacks {error}") from error
    faults = [f"image {name} has no size" for width, height, name in sizes if not (width > 0 and height > 0)]
    found: dict[str, list[Box]] = {str(image[IMAGE]): [] for image in images}
    for number, one in enumerate(annotated):
        try:
            image = places[one["image_id"]]
            found[str(image[IMAGE])].append(_box(one, image, names, tracked=tracked))
        except KeyError as error:
            faults.append(f"annotation {number}: {_what(error.args[0])} does not exist")
        except (TypeError, ValueError) as error:
            faults.append(f"annotation {number}: {error}")
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise InvalidDataset(f"{path} can't be used", [*faults[:MAX_FAULTS], *more])
    return Annotations(tuple(_fields(images)), {name: tuple(boxes) for name, boxes in found.items()})


def _what(key: object) -> str:
    return key if isinstance(key, str) else f"image or category {key!r}"


def _box(one: Mapping[str, Any], image: Mapping[str, Any], names: Mapping[Any, str], *, tracked: bool) -> Box:
    left, top, width, height = (float(number) for number in one["bbox"])
    full = float(image["width"]), float(image["height"])
    if not all(math.isfinite(number) for number in (left, top, width, height)) or width <= 0 or height <= 0:
        raise ValueError(f"the box {one['bbox']} on {image[IMAGE]} has no area; remove it")
    if (
        min(left, top) < -EDGE_TOLERANCE
        or left + width > full[0] + EDGE_TOLERANCE
        or top + height > full[1] + EDGE_TOLERANCE
    ):
        raise ValueError(f"the box {one['bbox']} is outside {image[IMAGE]}, {full[0]:g} x {full[1]:g}")
    corners = (left / full[0], top / full[1], (left + width) / full[0], (top + height) / full[1])
    first, second, third, fourth = (min(max(number, 0.0), 1.0) for number in corners)
    track = int(one[TRACK]) if tracked else 0
    return Box(names[one["category_id"]], (first, second, third, fourth), bool(one.get("iscrowd", 0)), track)


def _fields(images: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    """Each image's plain fields as text; one that another image lacks is empty."""
    names = list(dict.fromkeys(name for image in images for name in image))
    for image in images:
        values = ((name, image.get(name)) for name in names)
        yield {name: "" if value is None or isinstance(value, dict | list) else str(value) for name, value in values}
