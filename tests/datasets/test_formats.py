"""Every format is recognised, read with the right targets, and written in the native form without a change."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from auditsvc.datasets import recognise
from auditsvc.datasets.folder import write_folder
from auditsvc.datasets.image_dataset import Content, ContentReader, open_content
from auditsvc.datasets.readers import DatasetReaders, evaluation_split
from auditsvc.errors import InvalidDataset, InvalidInput


def picture(path: Path, level: int = 0, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).convert(mode).save(path)
    return path


def an_image_folder(base: Path) -> Path:
    for part in ("train", "val"):
        for number in range(3):
            picture(base / part / "dog" / f"{number}.png", 10 * number)
            picture(base / part / "cat" / "more" / f"{number}.jpg", 100 + number)
    return base


def a_table(base: Path) -> Path:
    rows = ["file_name,label,camera"]
    rows += [f"{picture(base / 'images' / f'{n}.png', 20 * n).name},{10 if n % 2 else 9},{'ab'[n % 2]}"
             for n in range(4)]  # fmt: skip
    (base / "test.csv").write_text("\n".join(rows) + "\n")
    return base / "test.csv"


def a_hugging_face_table(base: Path) -> Path:
    held = []
    for number in range(4):
        buffer = io.BytesIO()
        Image.new("L", (8, 6), 50 * number).save(buffer, "PNG")
        held.append({"bytes": buffer.getvalue(), "path": f"{number}.png"})
    features = {"label": {"names": ["shoe", "boot"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    for part, rows in (("test", (0, 2)), ("test", (2, 4)), ("train", (0, 4))):
        table = pa.table({"image": held[slice(*rows)], "label": [0, 1, 1, 0][slice(*rows)]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        (base / "data").mkdir(exist_ok=True, parents=True)
        shard = rows[0] // 2
        pq.write_table(table, base / "data" / f"{part}-{shard:05d}-of-0000{2 if part == 'test' else 1}.parquet")
    return base


def a_coco_folder(base: Path) -> Path:
    content = {
        "images": [{"id": n, "file_name": picture(base / "val2017" / f"{n}.png").name, "width": 8, "height": 6}
                   for n in (1, 2)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 7, "bbox": [2, 0, 4, 3], "iscrowd": 0},
                        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0, 0, 8, 6], "iscrowd": 1}],
    }  # fmt: skip
    (base / "annotations").mkdir()
    for part in ("train", "val"):
        (base / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content))
    return base


def a_yolo_folder(base: Path) -> Path:
    for number in range(2):
        picture(base / "images" / "val" / f"{number}.png")
    (base / "labels" / "val").mkdir(parents=True)
    (base / "labels" / "val" / "1.txt").write_text("1 0.5 0.25 0.5 0.5\n0 0 0 1 0 1 1 0 1\n")
    (base / "data.yaml").write_text(yaml.safe_dump({"names": {0: "cat", 1: "dog"}, "val": "images/val"}))
    return base


def a_mask_folder(base: Path) -> Path:
    for number in range(2):
        picture(base / "images" / f"{number}.jpg")
        (base / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 255, 0, 0]] * 3, np.uint8)).save(base / "masks" / f"{number}_mask.png")
    return base


MADE = {"image-folder": an_image_folder, "table": a_table, "coco": a_coco_folder, "yolo": a_yolo_folder,
        "masks": a_mask_folder}  # fmt: skip


def content(path: Path) -> Content:
    reader = recognise(path)[0]
    assert isinstance(reader, ContentReader)
    return reader.content(path)


@pytest.mark.parametrize(("kind", "make"), [*MADE.items(), ("table", a_hugging_face_table)])
def test_every_format_is_recognised_and_keeps_images_and_targets_in_the_native_form(tmp_path, kind, make):
    path = make(tmp_path / "data") if (tmp_path / "data").mkdir() is None else tmp_path
    reader, _ = recognise(path)
    assert reader.format == kind
    read = DatasetReaders().open(path)
    written = write_folder(content(path), tmp_path / "native")
    again = DatasetReaders().open(written.parent)
    assert again.classes == read.classes
    assert again.slices.names == read.slices.names
    for one, other in zip(read.batches(8), again.batches(8), strict=True):
        assert one.images.equal(other.images)
        assert one.targets.allclose(other.targets)
    assert again.ref.images == read.ref.images
    with pytest.raises(InvalidInput, match="is there already"):
        write_folder(content(path), tmp_path / "native")


def test_folders_are_classes_by_name_and_the_part_that_was_not_trained_on_is_read(tmp_path):
    data = DatasetReaders().open(an_image_folder(tmp_path))
    assert data.classes == ("cat", "dog")
    assert [int(data.target_of(number)) for number in range(6)] == [0, 0, 0, 1, 1, 1]
    assert data.name_of(0) == "cat/more/0.jpg"
    assert data.ref.notes == ("the part val was chosen of train, val",)


def test_numbers_are_classes_by_size_and_other_columns_become_slices(tmp_path):
    data = DatasetReaders().open(a_table(tmp_path))
    assert data.classes == ("9", "10")
    assert [int(data.target_of(number)) for number in range(4)] == [0, 1, 0, 1]
    assert data.slices.names == ("overall", "camera=a", "camera=b")


def test_a_column_of_parts_picks_the_rows_to_audit(tmp_path):
    path = a_table(tmp_path)
    lines = path.read_text().splitlines()
    parts = ["split", "train", "test", "test", "train"]
    path.write_text("\n".join(f"{line},{part}" for line, part in zip(lines, parts, strict=True)) + "\n")
    data = DatasetReaders().open(path)
    assert [data.name_of(number) for number in range(data.ref.images)] == ["1.png", "2.png"]
    assert "the rows with split=test were chosen of test, train" in (data.ref.notes or ())


def test_embedded_images_and_coded_classes_are_read_from_all_shards_of_one_part(tmp_path):
    data = DatasetReaders().open(a_hugging_face_table(tmp_path))
    (batch,) = data.batches(8)
    assert data.classes == ("shoe", "boot")
    assert batch.targets.tolist() == [0, 1, 1, 0]
    assert (batch.images[:, 0, 0, 0] * 255).round().tolist() == [0, 50, 100, 150]


def test_coco_classes_are_in_the_order_of_their_numbers(tmp_path):
    data = DatasetReaders().open(a_coco_folder(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.target_of(1).tolist() == [[1, 0.25, 0, 0.75, 0.5], [-2, 0, 0, 1, 1]]
    assert "instances_val2017.json was chosen" in (data.ref.notes or ("",))[0]


def test_yolo_boxes_are_centres_and_a_polygon_has_a_surrounding_box(tmp_path):
    data = DatasetReaders().open(a_yolo_folder(tmp_path) / "data.yaml")
    assert data.target_of(1).tolist() == [[1, 0.25, 0, 0.75, 0.5], [0, 0, 0, 1, 1]]
    assert data.ref.notes == (
        "the part val was read",
        "1 of 2 images (0.png) have no text file and count as images without objects",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [("2 0.5 0.5 1 1", "1.txt, line 1: the class '2' is not one of 0 to 1"), ("0 0.5 0.5 1", "expected a class"),
     ("0 0.5 0.5 nan 1", "expected a class"), ("0 0.5 0.5 0 1", "has no area"), ("0 4 3 4 3", "outside its image"),
     ("0.0 0.5 0.5 1 1", "the class '0.0'")],
)  # fmt: skip
def test_a_yolo_line_that_can_not_be_used_is_named(tmp_path, text, words):
    path = a_yolo_folder(tmp_path)
    (path / "labels" / "val" / "1.txt").write_text(text)
    assert any(words in reason for reason in faults(path))


def test_yolo_without_any_text_file_and_with_a_wrong_count_is_refused(tmp_path):
    path = a_yolo_folder(tmp_path)
    (path / "labels" / "val" / "1.txt").rename(path / "labels" / "val" / "9.txt")
    assert any("no image has a text file" in reason for reason in faults(path))
    picture(path / "images" / "val" / "9.png")
    assert DatasetReaders().open(path).ref.images == 3
    (path / "data.yaml").write_text("{names: [cat], nc: 2, val: images/val}")
    assert "nc is 2, and there are 1 names" in faults(path)[0]


def test_masks_of_two_numbers_have_a_foreground_and_others_are_classes(tmp_path):
    data = DatasetReaders().open(a_mask_folder(tmp_path))
    assert data.classes == ("background", "foreground")
    assert data.target_of(0)[:, 2:4].unique().tolist() == [1]  # the mask is half as large: 2 columns each
    Image.fromarray(np.array([[0, 1, 2, 255]] * 3, np.uint8)).save(tmp_path / "masks" / "0_mask.png")
    Image.fromarray(np.array([[0, 1, 2, 2]] * 3, np.uint8)).save(tmp_path / "masks" / "1_mask.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    data = DatasetReaders().open(tmp_path)
    assert data.classes == ("sky", "road", "car")
    assert data.target_of(0)[0].tolist() == [0, 0, 1, 1, 2, 2, 255, 255]


@pytest.mark.parametrize("make", [a_mask_folder, a_yolo_folder])
def test_what_has_no_counterpart_is_refused_by_name_and_left_out_if_that_is_asked_for(tmp_path, make):
    path = make(tmp_path)
    if make is a_mask_folder:
        picture(path / "images" / "9.jpg")
        expected = ("image 9.jpg has no mask", "left out: 1 images (9.jpg): has no mask")
    else:
        (path / "labels" / "val" / "9.txt").write_text("0 0.5 0.5 1 1")
        kind = "is a text file without an image"
        expected = (f"image 9.txt {kind}", f"left out: 1 images (9.txt): {kind}")
    assert expected[0] in faults(path)
    data = open_content(content(path).described(unmatched="skip"))
    assert data.ref.images == 2
    assert expected[1] in (data.ref.notes or ())


def faults(path: Path) -> tuple[str, ...]:
    with pytest.raises(InvalidDataset) as caught:
        DatasetReaders().open(path)
    return caught.value.reasons or (str(caught.value),)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(["train", "val", "test"], "test"), (["train2017", "val2017"], "val2017"), (["training"], "training"),
     (["cat", "dog"], None), (["train", "dog"], None), ([], None), (["instances_train", "instances_val"],
      "instances_val")],
)  # fmt: skip
def test_the_part_to_audit_is_one_that_was_not_trained_on(names, chosen):
    assert evaluation_split(names) == chosen


def test_an_unknown_folder_lists_what_every_format_needs(tmp_path):
    assert [reason.split()[0] for reason in faults(tmp_path)] == [
        "coco", "folder", "image-folder", "masks", "table", "yolo",
    ]  # fmt: skip
