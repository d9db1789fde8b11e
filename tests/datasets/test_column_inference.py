"""What a column is, is inferred from its values and reported; ``auto`` applies it."""

from __future__ import annotations

import pytest

from auditsvc.datasets import MISSING
from auditsvc.datasets.image_dataset import column_kind, infer_columns, infer_slices
from auditsvc.datasets.readers import DatasetReaders
from tests.datasets.test_folder import a_folder


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"] * 50, "words"),
        ([str(number % 5) for number in range(100)], "words"),
        ([f"{number / 7:.3f}" for number in range(100)], "numbers"),
        ([f"2026-01-{day:02d}" for day in range(1, 29)] * 4, "dates"),
        ([f"id-{number}" for number in range(100)], "names"),
        ([f"town{number % 30}" for number in range(100)], "words"),
        (["only"] * 100, "one value"),
        ([], "empty"),
    ],
)
def test_the_kind_follows_from_the_values(values, kind):
    assert column_kind(values, 100 if values else 10) == kind


def test_one_value_beside_missing_ones_makes_a_group():
    assert column_kind(["flash"] * 30, 100) == "words"


def test_a_column_of_another_use_is_left_alone():
    table = {"label": ["a", "b"] * 20, "camera": ["x", "y"] * 20, "age": [str(number) for number in range(40)]}
    assert infer_slices(table, ("label",)) == (("camera",), {"age": 5})
    found = infer_columns(table, {"label": "the target"})
    assert [(one.name, one.kind, one.use) for one in found] == [
        ("label", "words", "the target"), ("camera", "words", "not used"), ("age", "numbers", "not used")]  # fmt: skip


def test_auto_makes_the_slices_and_says_what_it_made(tmp_path):
    table = "image,label,kind,size\na.png,boot,new,40\nb.png,shoe,old,\nc.png,shoe,,44\nd.png,boot,new,42\n"
    dataset = DatasetReaders().open(a_folder(tmp_path, table, {"slices": "auto"}))
    assert [column.column for column in dataset.slices.columns] == ["kind"]
    assert f"kind={MISSING}" in dataset.slices.names
    told = {column.name: (column.kind, column.missing, column.use) for column in dataset.columns}
    assert told == {
        "image": ("names", 0, "the image"),
        "label": ("words", 0, "the target"),
        "kind": ("words", 1, "slices"),
        "size": ("names", 1, "not used"),
    }
    named = DatasetReaders().open(a_folder(tmp_path, table, {"slices": ["kind"]}))
    assert named.ref == dataset.ref
