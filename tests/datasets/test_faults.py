"""Faults that used to be read silently: each is refused or counted, by name."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from auditsvc.datasets.images import TURNED
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.datasets.table import near_equal, number_of, plain
from auditsvc.datasets.targets import turned_corners
from auditsvc.errors import InvalidDataset

FACTS = {"name": "things", "source": "made by a test", "licence": "CC0-1.0"}


def written(base: Path, table: str, **facts: Any) -> Path:
    given = {"task": "classification", "target": "label", "classes": ["x", "y"]}
    (base / "dataset.yaml").write_text(yaml.safe_dump(FACTS | given | facts, allow_unicode=True), "utf-8")
    (base / "metadata.csv").write_text(table, "utf-8")
    return base


def faults(path: Path) -> str:
    with pytest.raises(InvalidDataset) as caught:
        DatasetReaders().open(path)
    return str(caught.value)


def notes(path: Path) -> str:
    return "\n".join(DatasetReaders().open(path).ref.notes or ())


def one_image(base: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    image.save(base / name, **options)
    return written(base, f"image,label\n{name},x\n")


def turned(stored: Image.Image, orientation: int) -> dict[str, Any]:
    exif = stored.getexif()
    exif[0x0112] = orientation
    return {"exif": exif}


RAMP = np.arange(48, dtype=np.float64).reshape(6, 8)
SIXTEEN = (RAMP / 47 * 65535).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "name", "expected", "words"),
    [(Image.fromarray(SIXTEEN), "a.png", SIXTEEN / 65535, "16-bit grey was scaled"),
     (Image.fromarray(SIXTEEN), "a.tiff", SIXTEEN / 65535, "16-bit grey was scaled"),
     (Image.fromarray((RAMP / 47).astype(np.float32)), "a.tiff", RAMP / 47, "float grey was scaled"),
     (Image.fromarray((RAMP * 5).astype(np.uint8)), "a.png", RAMP * 5 / 255, ""),
     (Image.fromarray((RAMP * 5).astype(np.uint8)).convert("LA"), "a.png", RAMP * 5 / 255, "alpha channel"),
     (Image.fromarray(RAMP > 20), "a.png", (RAMP > 20).astype(float), "")],
)  # fmt: skip
def test_grey_of_every_depth_keeps_its_brightness(tmp_path, image, name, expected, words):
    path = one_image(tmp_path, image, name)
    (batch,) = DatasetReaders().open(path).batches(1)
    assert batch.images.shape == (1, 1, 6, 8)
    assert np.abs(batch.images[0, 0].numpy() - expected).max() <= 1 / 255
    assert words in notes(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "RGBX"])
def test_colours_of_every_mode_keep_their_channels(tmp_path, mode):
    image = Image.new("RGB", (8, 6), (200, 100, 50)).convert(mode)
    name = "a.tiff" if mode in ("CMYK", "RGBX") else "a.png"
    (batch,) = DatasetReaders().open(one_image(tmp_path, image, name)).batches(1)
    assert (batch.images[0, :, 0, 0] * 255).round().tolist() == pytest.approx([200, 100, 50], abs=5)


def test_images_that_could_only_be_guessed_are_refused_by_name(tmp_path):
    beyond = Image.fromarray((RAMP * 3).astype(np.float32))
    assert "a.tiff can't be read: float values from 0 to 141" in faults(one_image(tmp_path, beyond, "a.tiff"))
    (tmp_path / "a.tiff").unlink()
    deep = Image.fromarray((RAMP * 10_000).astype(np.int32))
    assert "a.tiff can't be read: grey values from 0 to 470000" in faults(one_image(tmp_path, deep, "a.tiff"))
    (tmp_path / "a.tiff").unlink()
    frames = [Image.new("L", (8, 6), level) for level in (0, 90, 200)]
    animated = one_image(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert "a.gif can't be read: 3 frames" in faults(animated)


def test_the_content_and_not_the_name_says_what_a_file_is_and_only_known_formats_are_decoded(tmp_path):
    Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / "real.bmp")
    written(tmp_path, "image,label\na.png,x\n")
    (tmp_path / "real.bmp").rename(tmp_path / "a.png")
    assert DatasetReaders().open(tmp_path).ref.images == 1
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png", format="ICO")
    assert "a.png can't be read" in faults(tmp_path)


def test_a_header_that_declares_too_many_pixels_is_not_decoded(tmp_path):
    one_image(tmp_path, Image.new("L", (8, 6)), "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = struct.pack("<ii", 12_000, 12_000)
    (tmp_path / "a.bmp").write_bytes(data)
    assert "12000 x 12000 pixels; the most are" in faults(tmp_path)


@pytest.mark.parametrize("orientation", sorted(TURNED))
@pytest.mark.parametrize("declared", ["upright", "stored"])
def test_images_boxes_and_masks_are_turned_together(tmp_path, orientation, declared):
    stored = np.zeros((6, 8), np.uint8)
    stored[1:3, 2:7] = 1
    upright = np.asarray(Image.fromarray(stored).transpose(TURNED[orientation]))
    Image.fromarray(stored * 255).save(tmp_path / "a.png", **turned(Image.fromarray(stored), orientation))
    drawn = upright if declared == "upright" or orientation < 5 else stored
    rows, columns = np.nonzero(drawn)
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": drawn.shape[1], "height": drawn.shape[0]}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    facts = {"task": "detection", "annotations": "boxes.json", "classes": ["x"]}
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(FACTS | facts))
    (tmp_path / "metadata.csv").write_text("image\na.png\n")
    (batch,) = DatasetReaders().open(tmp_path).batches(1)
    assert (batch.images[0, 0].numpy() > 0.5).tolist() == (upright > 0).tolist()
    left, top, right, low = (batch.targets[0, 0, 1:].numpy() * [*upright.shape[::-1], *upright.shape[::-1]]).round()
    assert upright[int(top) : int(low), int(left) : int(right)].sum() == upright.sum() == (low - top) * (right - left)
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    written(tmp_path, "image,mask\na.png,mask.png\n", task="segmentation", target="mask")
    (tmp_path / "m").mkdir()
    (tmp_path / "mask.png").rename(tmp_path / "m" / "mask.png")
    (tmp_path / "metadata.csv").write_text("image,mask\na.png,m/mask.png\n")
    assert next(DatasetReaders().open(tmp_path).batches(1)).targets[0].tolist() == upright.tolist()
    assert f"EXIF orientation {orientation}" in notes(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_a_place_and_a_person_in_the_metadata_of_an_image_are_counted_and_never_shown(tmp_path, name):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)}
    exif[0x8769] = {0xA431: "SN-1234567"}
    exif[0x013B] = "Ann Author"
    one_image(tmp_path, Image.fromarray(RAMP.astype(np.uint8)).convert("RGB"), name, exif=exif)
    dataset = DatasetReaders().open(tmp_path)
    found = "\n".join(dataset.ref.notes or ())
    for words in ("an artist", "a serial number", "a GPS position"):
        assert f"1 of 1 images ({name}): {words} in EXIF" in found
    assert "Ann" not in found and "1234567" not in found
    shown = dataset.thumbnail(0)
    assert b"Ann Author" not in shown and not dict(Image.open(io.BytesIO(shown)).getexif())


def test_metadata_that_cannot_be_read_are_named_and_the_image_is_still_read(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    one_image(tmp_path, Image.fromarray(RAMP.astype(np.uint8)), "a.jpg", exif=exif)
    assert "a GPS position in EXIF" in notes(tmp_path)
    monkeypatch.setattr(Image.Exif, "get_ifd", lambda *_: struct.unpack("<i", b""))
    assert "entries that can't be read in EXIF" in notes(tmp_path)


def test_corners_turned_four_times_by_a_quarter_are_the_same():
    corners = (0.1, 0.2, 0.5, 0.9)
    again = corners
    for _ in range(4):
        again = turned_corners(again, 6)
    assert again == pytest.approx(corners)
    assert turned_corners(turned_corners(corners, 6), 8) == pytest.approx(corners)


def test_a_mask_of_another_shape_than_its_image_is_refused(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "m").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "m" / "a.png")
    written(tmp_path, "image,mask\na.png,m/a.png\n", task="segmentation", target="mask")
    assert "(8, 8) (height, width), its image is (6, 8)" in faults(tmp_path)


COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6},
               {"id": 2, "file_name": "b.png", "width": 8, "height": 6}],
    "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 3], "iscrowd": 0}],
}  # fmt: skip


def coco(base: Path, part: str, place: int, table: str | None = None, **fields: Any) -> Path:
    content = json.loads(json.dumps(COCO))
    content[part][place] |= fields
    (base / "boxes.json").write_text(json.dumps(content))
    facts = {"task": "detection", "annotations": "boxes.json", "classes": ["x", "y"], "image": "file_name"}
    (base / "dataset.yaml").write_text(yaml.safe_dump(FACTS | facts))
    if table is not None:
        (base / "metadata.csv").write_text(table)
    for name in "ab":
        Image.new("L", (8, 6)).save(base / f"{name}.png")
    return base


@pytest.mark.parametrize(
    ("part", "place", "fields", "words"),
    [("images", 0, {"width": 6, "height": 6}, "image a.png is declared 6 x 6, the file is 8 x 6"),
     ("images", 1, {"id": 1}, "image id 1 is given 2 times: a.png, b.png"),
     ("images", 1, {"id": "1"}, "image id 1 is given 2 times: a.png, b.png"),
     ("images", 1, {"file_name": "a.png"}, "image a.png is given 2 times"),
     ("images", 0, {"width": "8"}, "image a.png has no size"), ("images", 0, {"width": None}, "a.png has no size"),
     ("images", 0, {"file_name": "images/a.png"}, "image images/a.png does not exist"),
     ("categories", 1, {"id": 1}, "category id 1 is given 2 times: x, y"),
     ("categories", 1, {"name": "x"}, "category x is given 2 times"),
     ("categories", 1, {"id": True}, "neither a whole number nor text"),
     ("annotations", 0, {"category_id": "1"}, "category '1', which is str; the id is 1"),
     ("annotations", 0, {"image_id": "1"}, "image '1', which is str; the id is 1"),
     ("annotations", 0, {"image_id": 1.0}, "annotation 0: image 1.0 does not exist"),
     ("annotations", 0, {"image_id": 7}, "annotation 0: image 7 does not exist"),
     ("annotations", 0, {"iscrowd": "0"}, "iscrowd is '0' on a.png"),
     ("annotations", 0, {"iscrowd": 2}, "iscrowd is 2 on a.png"),
     ("annotations", 0, {"bbox": ["0", "0", "4", "3"]}, "on a.png is not four numbers"),
     ("annotations", 0, {"bbox": [0, 0, 0, 3]}, "on a.png has no area"),
     ("annotations", 0, {"bbox": [6, 0, 4, 3]}, "is outside a.png")],
)  # fmt: skip
def test_coco_identifiers_sizes_and_boxes_are_exact(tmp_path, part, place, fields, words):
    assert words in faults(coco(tmp_path, part, place, **fields))


def test_coco_entries_and_rows_are_one_to_one(tmp_path):
    path = coco(tmp_path, "images", 0, "file_name\na.png\nb.png\n", file_name="images/a.png")
    found = faults(path)
    assert "image a.png has no entry in boxes.json" in found
    assert "image images/a.png of boxes.json has no row" in found


def test_boxes_that_are_given_twice_are_counted(tmp_path):
    path = coco(tmp_path, "images", 0)
    content = COCO | {"annotations": COCO["annotations"] * 2}
    (path / "boxes.json").write_text(json.dumps(content))
    assert "1 of 2 boxes (a.png) are given more than once" in notes(path)


GROUPS = ["Bogot\u00e1", "Bogota\u0301", "F", "F\u200b", " F", "Female", "female", "N/A", "nan", "New York", "New-York"]


def grouped(base: Path, values: list[str], column: str = "group", **facts: Any) -> Path:
    for number in range(len(values)):
        Image.new("L", (8, 6)).save(base / f"{number}.png")
    rows = "".join(f"{number}.png,x,{value}\n" for number, value in enumerate(values))
    return written(base, f"image,label,{column}\n{rows}", **facts)


def test_groups_that_print_alike_are_one_and_near_equal_ones_are_reported(tmp_path):
    data = DatasetReaders().open(grouped(tmp_path, GROUPS, slices=["group"]))
    assert data.slices.names == (
        "overall", "group=(missing)", "group=Bogotá", "group=F", "group=Female", "group=New York", "group=New-York",
        "group=female",
    )  # fmt: skip
    assert data.slices.sums(np.ones(11)).tolist() == [11, 2, 2, 3, 1, 1, 1, 1]
    told = "\n".join(data.ref.notes or ())
    assert "column group: 3 values were normalised" in told
    assert "column group: 2 values count as missing (N/A 1, nan 1)" in told
    assert "near-equal values are kept apart: 'Female' (1 images), 'female' (1 images)" in told
    assert "'New York' (1 images), 'New-York' (1 images)" in told


@pytest.mark.parametrize("text", ["inf", "-inf", "1_000", "0x10", "1,5", "４２", "1e999", "twelve"])
def test_what_is_no_finite_decimal_number_is_refused_with_its_row(tmp_path, text):
    path = grouped(tmp_path, ["31", f'"{text}"', "29"], "age", bins={"age": 2})
    assert f"row 3: age is '{text}', not a number" in faults(path)


def test_numbers_that_are_missing_are_counted(tmp_path):
    path = grouped(tmp_path, ["31", "nan", "N/A", " 29 ", "1e1"], "age", bins={"age": [30]})
    data = DatasetReaders().open(path)
    assert data.slices.sums(np.ones(5)).tolist() == [5, 2, 1, 2]
    assert "column age: 2 values count as missing (nan 1, N/A 1)" in notes(path)


def test_a_class_in_another_normal_form_is_the_same_class(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    path = written(tmp_path, "image,label\na.png,caf\u00e9 \n", classes=["cafe\u0301", "bar"])
    assert DatasetReaders().open(path).classes == ("café", "bar")


def test_a_text_keeps_its_spaces_and_is_compared_in_one_normal_form(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    facts = {"task": "ocr", "target": "text", "classes": ["e\u0301", "a", " "]}
    path = written(tmp_path, "image,text\na.png,ae\u0301 \n", **facts)
    assert DatasetReaders().open(path).target_of(0).tolist() == [1, 0, 2]


def test_images_and_rows_without_a_counterpart_are_counted_and_may_be_left_out(tmp_path):
    path = grouped(tmp_path, ["a", "b", "a"], slices=["group"])
    (path / "2.png").rename(path / "3.png")
    found = faults(path)
    assert "images: 1 does not exist, 1 has no row in the metadata; correct the names, or write" in found
    assert "image 2.png does not exist" in found and "image 3.png has no row in the metadata" in found
    table = (path / "metadata.csv").read_text("utf-8")
    data = DatasetReaders().open(written(path, table, slices=["group"], unmatched="skip"))
    assert [data.name_of(number) for number in range(data.ref.images)] == ["0.png", "1.png"]
    assert "left out: 1 images (2.png): does not exist" in (data.ref.notes or ())
    assert "left out: 1 images (3.png): has no row in the metadata" in (data.ref.notes or ())


def test_a_file_whose_name_differs_in_its_unicode_form_alone_is_found(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "Bogota\u0301.png")
    data = DatasetReaders().open(written(tmp_path, "image,label\nBogot\u00e1.png,x\n"))
    assert next(data.batches(1)).images.shape == (1, 1, 6, 8)


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"sorce": "x"}, "sorce: Extra inputs are not permitted; did you mean 'source'?"),
     ({"licens": "x"}, "did you mean 'license'?"), ({"slcies": []}, "did you mean 'slices'?"),
     ({"license": "MIT"}, "licence and license are one field"), ({"channels": 2}, "channels")],
)  # fmt: skip
def test_unknown_fields_name_the_nearest_one(tmp_path, fields, words):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    assert words in faults(written(tmp_path, "image,label\na.png,x\n", **fields))


def test_both_spellings_are_taken_and_a_field_is_given_once(tmp_path):
    path = grouped(tmp_path, ["a", "b"])
    text = (path / "dataset.yaml").read_text().replace("licence:", "license:") + "slice: group\n"
    (path / "dataset.yaml").write_text(text)
    data = DatasetReaders().open(path)
    assert (data.ref.licence, data.slices.names[1:]) == ("CC0-1.0", ("group=a", "group=b"))
    (path / "dataset.yaml").write_text(text + "name: other\n")
    assert "given twice: name" in faults(path)


def test_a_table_with_other_separators_says_so(tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    assert "separates its fields by ';'; write commas" in faults(written(tmp_path, "image;label\na.png;x\n"))


def test_grey_images_may_be_read_in_colour_and_the_reverse(tmp_path):
    path = one_image(tmp_path, Image.new("L", (8, 6), 90))
    for channels in (1, 3):
        written(path, "image,label\na.png,x\n", channels=channels)
        assert next(DatasetReaders().open(path).batches(1)).images.shape == (1, channels, 6, 8)


@pytest.mark.parametrize("text", ["a\u00a0b", " a  b\t", "a\u2009b\u200d", "\ufeffa b"])
def test_plain_text_has_single_spaces_and_nothing_invisible(text):
    assert plain(text) == "a b"


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("-2.5e3", -2500), (".5", 0.5), ("5.", 5), ("", None)])
def test_decimal_numbers(text, number):
    assert number_of(text) == number


def test_numbers_in_two_forms_are_near_equal():
    assert near_equal("age", ["1", "1.0", "2"]) == [
        "column age: near-equal values are kept apart: '1' (1 images), '1.0' (1 images)"
    ]
