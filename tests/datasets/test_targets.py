"""Boxes, masks and texts are read from the files people have, and every fault is told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidDataset
from tests.packs import pack

FACTS = {"name": "things", "source": "made by a test", "licence": "CC0-1.0"}
COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 20, "height": 10, "camera": "one"},
        {"id": 8, "file_name": "b.png", "width": 20, "height": 10, "camera": "two"},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 5, "bbox": [5, 0, 10, 5], "iscrowd": 0, "track_id": 4},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 20.5, 10], "iscrowd": 1, "track_id": 9},
    ],
}


def folder(tmp_path: Path, facts: dict[str, Any], table: str | None = None, size: tuple[int, int] = (20, 10)) -> Path:
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(FACTS | facts, allow_unicode=True), "utf-8")
    if table is not None:
        (tmp_path / "metadata.csv").write_text(table, "utf-8")
    for level, name in enumerate("ab"):
        Image.new("L", size, 100 * level).save(tmp_path / f"{name}.png")
    return tmp_path


def boxed(tmp_path: Path, content: dict[str, Any], **facts: Any) -> Path:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    given = {"task": "detection", "annotations": "boxes.json", "image": "file_name", "classes": ["cat", "dog"]}
    return folder(tmp_path, given | {"slices": ["camera"]} | facts)


def changed(place: int, **fields: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(COCO))
    content["annotations"][place] |= fields
    return content


def opened(path: Path) -> Dataset:
    return DatasetReaders().open(path)


def reasons(path: Path) -> tuple[str, ...]:
    with pytest.raises(InvalidDataset) as caught:
        opened(path)
    return caught.value.reasons or (str(caught.value),)


def test_boxes_are_shares_of_their_image_and_images_without_any_are_there(tmp_path):
    data = opened(boxed(tmp_path, COCO))
    (batch,) = data.batches(4)
    assert batch.targets.tolist() == [
        [[1.0, 0.25, 0.0, 0.75, 0.5], [-2.0, 0.0, 0.0, 1.0, 1.0]],
        [[-1.0] * 5, [-1.0] * 5],
    ]
    assert data.slices.names == ("overall", "camera=one", "camera=two")
    assert data.target_of(0).tolist() == batch.targets[0].tolist()


def test_frames_of_a_sequence_carry_the_numbers_of_their_objects(tmp_path):
    data = opened(boxed(tmp_path, COCO, task="tracking", cluster="camera"))
    assert next(data.batches(4)).targets[0, :, 5].tolist() == [4.0, 9.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(0, bbox=[5, 0, 0, 5]), "annotation 0: the box [5, 0, 0, 5] on a.png has no area"),
        (changed(0, bbox=[15, 0, 10, 5]), "annotation 0: the box [15, 0, 10, 5] is outside a.png, 20 x 10"),
        (changed(1, image_id=99), "annotation 1: image 99 does not exist"),
        (changed(1, category_id=99), "annotation 1: category 99 does not exist"),
        (changed(0, bbox=[1, 2, 3]), "annotation 0: the box [1, 2, 3] on a.png is not four numbers"),
        (changed(0, bbox=[1, 2, 3, float("nan")]), "annotation 0: the box [1, 2, 3, nan] on a.png has no area"),
        (COCO | {"categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "cow"}]},
         "categories that are not among the classes: cow"),
        ({"images": []}, "is not in the COCO format: it lacks 'categories'"),
    ],
)  # fmt: skip
def test_annotations_that_can_not_be_used_are_told_one_by_one(tmp_path, content, words):
    assert any(words in reason for reason in reasons(boxed(tmp_path, content)))


def test_a_data_set_is_named_by_its_boxes_too(tmp_path):
    digests = []
    for number, content in enumerate((COCO, changed(0, bbox=[5, 0, 10, 6]), COCO)):
        (tmp_path / str(number)).mkdir()
        digests.append(opened(boxed(tmp_path / str(number), content)).ref.digest)
    assert digests[0] == digests[2] != digests[1]


MASKED = {"task": "segmentation", "target": "mask", "classes": ["ground", "thing"]}
MASKS = "image,mask\na.png,masks/a.png\nb.png,masks/b.png\n"


def masked(tmp_path: Path, numbers: list[list[int]], kind: Any = np.uint8, **facts: Any) -> Path:
    (tmp_path / "masks").mkdir(exist_ok=True)
    for name in "ab":
        Image.fromarray(np.array(numbers, kind)).save(tmp_path / "masks" / f"{name}.png")
    return folder(tmp_path, MASKED | facts, MASKS, size=(2, 2))


def test_masks_hold_class_numbers_or_anything_but_the_ground(tmp_path):
    plain = opened(masked(tmp_path, [[0, 1], [255, 1]]))
    assert next(plain.batches(1)).targets.tolist() == [[[0, 1], [255, 1]]]
    counted = opened(masked(tmp_path, [[0, 700], [3, 0]], np.uint16, foreground=True))
    assert next(counted.batches(1)).targets.tolist() == [[[0, 1], [1, 0]]]
    assert plain.ref.digest != counted.ref.digest


def test_a_mask_that_is_replaced_after_the_digest_was_taken_is_not_used(tmp_path):
    found = opened(masked(tmp_path, [[0, 1], [255, 1]]))
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "masks" / "b.png")
    with pytest.raises(InvalidDataset, match=r"b\.png was changed after the data set was opened"):
        list(found.batches(2))


def test_masks_are_scaled_with_their_images_by_the_nearest_pixel(tmp_path):
    data = opened(masked(tmp_path, [[0, 1], [1, 0]], size=[4, 4]))
    batch = next(data.batches(2))
    assert batch.images.shape == (2, 1, 4, 4)
    assert batch.targets[0].tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([[0, 9], [0, 0]], "mask masks/a.png has the numbers [9]; classes are 0 to 1, and 255 does not count"),
     ([[255, 255], [255, 255]], "mask masks/a.png ignores every pixel")],
)  # fmt: skip
def test_masks_that_can_not_be_used_are_told(tmp_path, numbers, words):
    assert words in reasons(masked(tmp_path, numbers))


def test_a_mask_that_is_missing_or_outside_is_told(tmp_path):
    path = masked(tmp_path, [[0, 1], [1, 0]])
    (path / "masks" / "b.png").unlink()
    (path / "metadata.csv").write_text(MASKS.replace("masks/a.png", "../a.png"))
    assert reasons(path) == ("mask ../a.png is outside the folder", "mask masks/b.png does not exist")


READ = {"task": "ocr", "target": "text", "classes": list("abc")}


def test_texts_are_numbers_of_characters_and_padded(tmp_path):
    data = opened(folder(tmp_path, READ, "image,text\na.png,ab\nb.png,\n"))
    assert next(data.batches(2)).targets.tolist() == [[0, 1], [-1, -1]]


def test_characters_that_are_no_class_are_told(tmp_path):
    (reason,) = reasons(folder(tmp_path, READ, "image,text\na.png,abx\nb.png,z\n"))
    assert reason == "text has characters that are not among the classes: x z"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"task": "detection", "target": "x"}, "detection needs annotations"),
        ({"task": "classification", "annotations": "x.json"}, "classification needs a target column"),
        ({"task": "tracking", "annotations": "x.json"}, "tracking needs a cluster"),
        ({"task": "ocr", "target": "text", "classes": ["ab", "c"]}, "in ocr the classes are single characters"),
        ({"task": "classification", "target": "x", "foreground": True}, "foreground is for masks"),
        ({"task": "segmentation", "target": "x", "classes": ["one"]}, "needs at least two classes"),
    ],
)
def test_a_description_must_fit_its_task(tmp_path, facts, words):
    assert any(words in reason for reason in reasons(folder(tmp_path, {"classes": ["a", "b"]} | facts)))


def test_grey_and_coloured_images_together_are_all_coloured(tmp_path):
    path = folder(tmp_path, READ, "image,text\na.png,ab\nb.png,c\n")
    Image.new("RGB", (20, 10), (255, 0, 0)).save(path / "b.png")
    assert next(opened(path).batches(2)).images.shape == (2, 3, 10, 20)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "facts", "images"),
    [
        ("bccd-cells", {"task": "detection", "annotations": "annotations.json", "image": "file_name",
                        "classes": ["RBC", "WBC", "Platelets"], "size": [120, 160], "slices": ["split"]}, 364),
        ("dsb2018-nuclei", {"task": "segmentation", "target": "mask", "classes": ["ground", "nucleus"],
                            "size": [64, 64], "foreground": True, "slices": ["modality_derived"]}, 664),
    ],
)  # fmt: skip
def test_real_packs_open(tmp_path, name, facts, images):
    place = pack(name)
    for item in place.iterdir():
        (tmp_path / item.name).symlink_to(item)
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(FACTS | facts))
    data = opened(tmp_path)
    assert data.ref.images == images == sum(len(batch.indices) for batch in data.batches(64))
