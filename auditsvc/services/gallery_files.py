"""The flipped images of a report, stored next to it for pages that show them without the data set."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from auditsvc.compliance import GalleryItem
from auditsvc.records import canonical_json

PICTURES = "pictures.json"
"""The file in a report's folder."""


def pictures(gallery: Iterable[GalleryItem]) -> bytes:
    """Each image as a ``data:`` address, with what both models said and what is right."""
    shown = [
        {
            "image": item.image,
            "source": f"data:{_kind(item.data)};base64,{base64.b64encode(item.data).decode()}",
            "parent": item.parent,
            "candidate": item.candidate,
            "target": item.target,
            "condition": item.condition,
            "slices": list(item.slices),
        }
        for item in gallery
    ]
    return canonical_json(shown)


def _kind(data: bytes) -> str:
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
