"""A data set folder is checked whole when it is opened, and named by its content."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image

from auditsvc.datasets import MISSING
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidDataset

FACTS = {"name": "shoes", "task": "classification", "target": "label", "classes": ["boot", "shoe"],
         "source": "made by a test", "licence": "CC0-1.0"}  # fmt: skip
ROWS = "image,label,kind,size\na.png,boot,new,40\nb.png,shoe,old,\nc.png,shoe,,44\nd.png,boot,new,42\n"


def a_folder(tmp_path, table=ROWS, facts=None, images="abcd", shape=(6, 8)):
    folder = tmp_path / "shoes"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(FACTS | (facts or {})))
    (folder / "metadata.csv").write_text(table)
    for level, name in enumerate(images):
        Image.new("RGB", shape, (40 * level, 0, 0)).save(folder / f"{name}.png")
    return folder


def an_array_folder(tmp_path, pixels, table="label\nboot\nshoe\n"):
    folder = tmp_path / "array"
    folder.mkdir(exist_ok=True)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(FACTS))
    (folder / "metadata.csv").write_text(table)
    if isinstance(pixels, bytes):
        (folder / "images.npz").write_bytes(pixels)
    else:
        np.savez(folder / "images.npz", **pixels)
    return folder


def reasons(folder):
    with pytest.raises(InvalidDataset) as caught:
        DatasetReaders().open(folder)
    return caught.value.reasons or (str(caught.value),)


def test_images_targets_and_names_belong_together(tmp_path):
    dataset = DatasetReaders().open(a_folder(tmp_path))
    (batch,) = dataset.batches(8)
    assert batch.images.shape == (4, 3, 8, 6)
    assert (batch.images[:, 0, 0, 0] * 255).round().tolist() == [0, 40, 80, 120]
    assert [dataset.classes[dataset.target_of(number)] for number in range(4)] == ["boot", "shoe", "shoe", "boot"]
    assert [dataset.index_of(dataset.name_of(number)) for number in range(4)] == [0, 1, 2, 3]
    assert dataset.thumbnail(1)[:4] == b"\x89PNG"


def test_a_chosen_part_comes_in_its_order_in_any_batch_size(tmp_path):
    dataset = DatasetReaders().open(a_folder(tmp_path))
    found = [batch.indices.tolist() for batch in dataset.batches(2, np.array([3, 0, 1]))]
    assert found == [[3, 0], [1]]


def test_missing_values_are_a_slice_of_their_own(tmp_path):
    dataset = DatasetReaders().open(a_folder(tmp_path, facts={"slices": ["kind"], "bins": {"size": [41]}}))
    assert dataset.slices.names == (
        "overall", f"kind={MISSING}", "kind=new", "kind=old", "size=below 41", "size=41 and over", f"size={MISSING}",
    )  # fmt: skip
    assert dataset.slices.sums(np.ones(4)).tolist() == [4, 1, 2, 1, 1, 2, 1]


def test_where_picks_rows_and_faults_keep_the_lines_of_the_file(tmp_path):
    dataset = DatasetReaders().open(a_folder(tmp_path, facts={"where": {"kind": "new"}}))
    assert dataset.names == ("a.png", "d.png")
    bad = ROWS.replace("d.png,boot", "d.png,boat")
    assert reasons(a_folder(tmp_path, bad, {"where": {"kind": "new"}})) == (
        "row 5: label is 'boat', not one of boot, shoe; did you mean 'boot'?",
    )
    assert "no row of the metadata" in reasons(a_folder(tmp_path, facts={"where": {"kind": "red"}}))[0]


@pytest.mark.parametrize(
    ("table", "fault"),
    [(ROWS.replace("a.png,boot", "a.png,boat"), "row 2: label is 'boat', not one of boot, shoe; did you mean 'boot'?"),
     (ROWS + "a.png,boot,new,40\n", "image a.png is named by 2 rows"),
     (ROWS.replace("d.png,boot,new,42\n", ""), "image d.png has no row in the metadata"),
     (ROWS + "e.png,boot,new,40\n", "image e.png does not exist"),
     (ROWS.replace("a.png", ""), "row 2: no image is named"),
     (ROWS.replace("a.png", "../a.png"), "image ../a.png is outside the folder"),
     (ROWS.replace("a.png", "/etc/passwd"), "image /etc/passwd is outside the folder"),
     (ROWS.replace("new,40", "new"), "row 2: fewer fields than the header"),
     (ROWS.replace("new,40", "new,40,1"), "row 2: more fields than the header"),
     (ROWS.replace("label", "lable"),
      "metadata.csv has no column 'label'; it has image, lable, kind, size; did you mean 'lable'?"),
     (ROWS.replace("image,", "file,"), "metadata.csv has no column 'image'; it has file, label, kind, size"),
     (ROWS.replace("size", "kind"), "metadata.csv has the column 'kind' twice"),
     ("", "metadata.csv has no column 'image'; it has none"),
     (ROWS.splitlines()[0], "no row of the metadata has any content")],
)  # fmt: skip
def test_what_is_wrong_with_the_table_is_told(tmp_path, table, fault):
    assert fault in reasons(a_folder(tmp_path, table))


@pytest.mark.parametrize(
    ("facts", "fault"),
    [({"slices": ["colour"]}, "metadata.csv has no column 'colour'; it has image, label, kind, size"),
     ({"slices": ["kind", "kind"]}, "slice columns given twice: kind"),
     ({"slices": ["overall"]}, "that is the slice of all images"),
     ({"classes": ["boot", "boot"]}, "classes given twice: boot"),
     ({"classes": ["boot"]}, "classes"), ({"colour": 1}, "colour: Extra inputs"),
     ({"bins": {"kind": 2}}, "row 2: kind is 'new', not a number"),
     ({"bins": {"size": 1}}, "bins.size"),
     ({"cluster": "kind"}, "row 4: no kind, which every image needs"),
     ({"task": "guessing"}, "task")],
)  # fmt: skip
def test_what_is_wrong_with_the_description_is_told(tmp_path, facts, fault):
    assert any(fault in reason for reason in reasons(a_folder(tmp_path, facts=facts)))


def test_every_fault_is_told_at_once_and_many_are_counted(tmp_path):
    many = ROWS + "".join(f"x{number}.png,boat,new,1\n" for number in range(30))
    found = reasons(a_folder(tmp_path, many))
    assert len(found) == 21
    assert found[-1] == "and 41 more"


def test_a_text_column_is_no_group(tmp_path):
    long = ROWS.replace("new", "n" * 250)
    assert "not a group" in reasons(a_folder(tmp_path, long, {"slices": ["kind"]}))[0]


def test_an_image_that_is_none_is_told(tmp_path):
    folder = a_folder(tmp_path)
    (folder / "b.png").write_bytes(b"not an image")
    (broken,) = reasons(folder)
    assert broken.startswith("image b.png can't be read")


def test_an_image_that_breaks_off_is_an_error_when_it_is_read(tmp_path):
    folder = a_folder(tmp_path, shape=(64, 64))
    Image.effect_noise((64, 64), 50).convert("RGB").save(folder / "b.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:2000])
    with pytest.raises(InvalidDataset, match=r"b\.png can't be read"):
        list(DatasetReaders().open(folder).batches(4))


def test_an_image_that_is_replaced_after_the_digest_was_taken_is_not_measured(tmp_path):
    folder = a_folder(tmp_path)
    found = DatasetReaders().open(folder)
    Image.new("RGB", (6, 8), (9, 9, 9)).save(folder / "c.png")
    with pytest.raises(InvalidDataset, match=r"c\.png was changed after the data set was opened"):
        list(found.batches(4))


TWO = np.zeros((2, 5, 5), np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [{"images": np.zeros((3, 5, 5), np.uint8)}, {"images": np.zeros((1, 5, 5), np.uint8)},
     {"images": np.zeros((2, 5, 5), np.float32)}, {"images": np.zeros((2, 5), np.uint8)},
     {"images": np.zeros((2, 5, 5, 4), np.uint8)}, {"pictures": TWO}, b"", b"PK\x03\x04 broken",
     {"images": np.array([object(), object()])}],
    ids=["more", "fewer", "floats", "flat", "four-channels", "name", "empty", "broken", "pickled"],
)  # fmt: skip
def test_an_array_that_does_not_fit_its_rows_is_refused(tmp_path, pixels):
    (fault,) = reasons(an_array_folder(tmp_path, pixels))
    assert fault.startswith("images.npz")


def test_an_array_gives_images_without_names(tmp_path):
    pixels = np.stack([TWO[0], TWO[0] + 255])
    dataset = DatasetReaders().open(an_array_folder(tmp_path, {"images": pixels}))
    (batch,) = dataset.batches(2)
    assert batch.images.shape == (2, 1, 5, 5)
    assert batch.images.amax(dim=(1, 2, 3)).tolist() == [0, 1]
    assert dataset.names == ("#0", "#1")


def test_the_digest_is_of_the_content_and_of_nothing_else(tmp_path):
    facts = {"slices": ["kind"]}
    first = DatasetReaders().open(a_folder(tmp_path, facts=facts)).ref.digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    assert DatasetReaders().open(a_folder(moved, facts=facts | {"name": "other"})).ref.digest == first
    unread = DatasetReaders().open(a_folder(tmp_path, ROWS.replace("40", "41"), facts)).ref.digest
    assert unread == first
    for table, more in ((ROWS.replace("old", "new"), {}), (ROWS, {"bins": {"size": 2}}), (ROWS, {"cluster": "size"})):
        table = table.replace("old,\n", "old,41\n") if "cluster" in more else table
        assert DatasetReaders().open(a_folder(tmp_path, table, facts | more)).ref.digest != first
    folder = a_folder(tmp_path, facts=facts)
    Image.new("RGB", (6, 8), (1, 2, 3)).save(folder / "a.png")
    assert DatasetReaders().open(folder).ref.digest != first


def test_clusters_are_numbered(tmp_path):
    table = ROWS.replace("old,\n", "old,40\n")
    dataset = DatasetReaders().open(a_folder(tmp_path, table, {"cluster": "size"}))
    assert dataset.slices.clusters.tolist() == [0, 0, 2, 1]


def test_metadata_may_be_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = a_folder(tmp_path, facts={"slices": ["kind"], "bins": {"size": 2}})
    from_csv = DatasetReaders().open(folder)
    (folder / "metadata.csv").unlink()
    columns = {"image": [f"{name}.png" for name in "abcd"], "label": ["boot", "shoe", "shoe", "boot"],
               "kind": ["new", "old", None, "new"], "size": [40, None, 44, 42]}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), folder / "metadata.parquet")
    found = DatasetReaders().open(folder)
    assert (found.slices.names, found.names, found.ref) == (from_csv.slices.names, from_csv.names, from_csv.ref)
    (folder / "metadata.parquet").write_bytes(b"broken")
    assert "can't be read" in reasons(folder)[0]


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    assert "folder needs a dataset.yaml, or the path of another description (*.yaml)" in reasons(tmp_path)
    with pytest.raises(InvalidDataset, match="there is no such file or folder"):
        DatasetReaders().open(tmp_path / "absent")
    (tmp_path / "dataset.yaml").write_text("a: [")
    assert "is not YAML" in reasons(tmp_path)[0]
    (tmp_path / "dataset.yaml").write_text("just words")
    assert reasons(tmp_path)


def test_a_table_with_a_byte_order_mark_and_quoted_lines_is_read(tmp_path):
    table = "\ufeff" + ROWS.replace("a.png,boot,new", 'a.png,boot,"ne\nw"').replace("d.png,boot", "d.png,boat")
    assert reasons(a_folder(tmp_path, table)) == (
        "row 6: label is 'boat', not one of boot, shoe; did you mean 'boot'?",
    )
