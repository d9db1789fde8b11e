"""Images of several sizes are scaled from their files as each model's card says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from auditsvc.datasets.readers import DatasetReaders
from auditsvc.datasets.scaling import one_size, scaled_for
from auditsvc.datasets.slicing import ReslicedDataset
from auditsvc.errors import InvalidInput
from auditsvc.models import ArchitectureCard, InputSpec
from auditsvc.records.architecture import Preprocessing, Resize

SIZES = {"a/0.png": (40, 30), "a/1.png": (30, 40), "b/2.png": (64, 48)}
"""Width and height."""


def photos(folder):
    chance, pixels = np.random.default_rng(0), {}
    for name, (width, height) in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels[name] = chance.integers(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels[name]).save(folder / name)
    return pixels


def card(task="classification", **fields):
    return ArchitectureCard(architecture="x", task=task, classes=("a", "b"),
                            input=InputSpec(channels=3, height=16, width=16), **fields)  # fmt: skip


CROPPED = Preprocessing(resize=Resize(size=20, mode="bicubic"), crop=(16, 16))


@pytest.mark.parametrize(("made", "size"), [(None, (16, 16)), (CROPPED, 20)])
def test_a_model_gets_each_photo_scaled_as_its_card_says(made, size, tmp_path):
    pixels = photos(tmp_path)
    dataset = DatasetReaders().open(tmp_path)
    assert one_size(dataset) is None and any("3 sizes (40 x 30 to 64 x 48)" in note for note in dataset.ref.notes)
    sliced = ReslicedDataset(dataset, dataset.slices)
    (batch,) = scaled_for(sliced, card(preprocessing=made)).batches(8)
    for found, (name, (width, height)) in zip(batch.images, SIZES.items(), strict=True):
        given = torch.from_numpy(pixels[name]).permute(2, 0, 1)[None] / 255
        whole = size if made is None else (size * height // min(width, height), size * width // min(width, height))
        mode = "bilinear" if made is None else "bicubic"
        scaled = interpolate(given, whole, mode=mode, antialias=True).clamp(0, 1)[0]
        top, left = (round((side - 16) / 2) for side in scaled.shape[1:])
        assert (found - scaled[:, top : top + 16, left : left + 16]).abs().max() <= 0.5 / 255 + 1e-6
    (plain,) = dataset.batches(8)
    assert plain.images.shape == (3, 3, 40, 40)  # the median height and width


def test_masks_and_boxes_are_scaled_with_their_photos_and_never_cropped(tmp_path):
    boxes = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    for number, (width, height) in enumerate(SIZES.values()):
        mask = np.zeros((height, width), np.uint8)
        mask[:, : width // 2] = 1
        for kind, image in (("images", Image.new("RGB", (width, height))), ("masks", Image.fromarray(mask))):
            (tmp_path / "m" / kind).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "m" / kind / f"{number}.png")
        boxes["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        box = {"image_id": number, "category_id": 1, "bbox": [0, 0, width / 2, height], "id": number}
        boxes["annotations"].append(box)
    masked = scaled_for(DatasetReaders().open(tmp_path / "m"), card("segmentation"))
    (batch,) = masked.batches(8)
    assert batch.targets.shape == (3, 16, 16) and bool((batch.targets[:, :, :8] == 1).all())
    (tmp_path / "m" / "images" / "boxes.json").write_text(json.dumps(boxes))
    boxed = DatasetReaders().open(tmp_path / "m" / "images")
    (batch,) = scaled_for(boxed, card("detection")).batches(8)
    assert batch.images.shape[2:] == (16, 16) and batch.targets[:, 0, 1:].tolist() == [[0, 0, 0.5, 1]] * 3
    with pytest.raises(InvalidInput, match="would move the boxes"):
        next(scaled_for(boxed, card("detection", preprocessing=CROPPED)).batches(8))
