"""Slices from numbers, products and expressions against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.datasets import MISSING, Slices, column_from
from auditsvc.datasets.image_properties import PROPERTIES, properties_of
from auditsvc.datasets.slicing import ReslicedDataset, apply_slicing, bin_column, cross_columns, named
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.paired import paired_readings
from auditsvc.records import Slicing
from tests.fakes.models import SeesMeanBrightness, case_of, grey_dataset

KIND = column_from("kind", ["a", "a", "b", "b", "b", ""])
SIZE = column_from("size", ["s", "l", "s", "s", "l", "l"])
BOTH = Slices(6, (KIND, SIZE))


def members(slices, name):
    return [number for number in range(slices.images) if name in slices.of(number)]


def test_a_bin_holds_its_lower_edge_and_not_its_upper_one():
    column = bin_column("age", np.array([9.0, 10, 19, 20, np.nan, np.inf]), [10, 20])
    assert column.names == ("age=below 10", "age=10..20", "age=20 and over", f"age={MISSING}")
    assert column.codes.tolist() == [0, 1, 1, 2, 3, 3]


@given(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=60), st.integers(2, 6))
def test_every_number_lies_in_one_bin_and_no_bin_is_empty(numbers, bins):
    column = bin_column("age", np.array(numbers), bins)
    assert set(column.codes.tolist()) == set(range(len(column.labels)))
    assert len(column.labels) <= bins + 1
    assert (MISSING in column.labels) == bool(np.isnan(numbers).any())


def test_quantile_bins_hold_about_as_many_images_each():
    column = bin_column("age", np.random.default_rng(0).normal(size=1000), 5)
    assert np.bincount(column.codes).tolist() == [200] * 5


def test_a_number_that_never_changes_is_one_bin():
    assert bin_column("age", np.full(5, 3.0), 4).names == ("age=any",)


def test_products_are_formed_where_enough_images_lie():
    (product,) = cross_columns((KIND, SIZE), 2, 2)
    assert product.names == ("kind=b & size=s",)
    slices = Slices(6, (KIND, SIZE, product))
    assert members(slices, "kind=b & size=s") == [2, 3]
    assert slices.sums(np.arange(6.0))[-1] == 5
    assert slices.of(0) == ("kind=a", "size=s")
    assert cross_columns((KIND, SIZE), 2, 3) == ()
    assert {name for product in cross_columns((KIND, SIZE), 2, 1) for name in product.names} == {
        f"kind={MISSING} & size=l", "kind=a & size=l", "kind=a & size=s", "kind=b & size=l", "kind=b & size=s",
    }  # fmt: skip


def test_products_go_to_the_depth_that_is_asked_for():
    third = column_from("eyes", ["x"] * 6)
    names = [product.column for product in cross_columns((KIND, SIZE, third), 3, 1)]
    assert names == ["kind * size", "kind * eyes", "size * eyes", "kind * size * eyes"]


@pytest.mark.parametrize(
    ("expression", "inside"),
    [("kind=a", [0, 1]), ("kind=b & size=s", [2, 3]), ("kind=a | size=l", [0, 1, 4, 5]),
     ("not kind=b", [0, 1, 5]), ("kind=b & not size=s | kind=a & size=l", [1, 4]), ("kind=*", [0, 1, 2, 3, 4, 5])],
)  # fmt: skip
def test_an_expression_names_the_images_that_thought_says(expression, inside):
    slices = Slices(6, (*BOTH.columns, named("own", expression, BOTH)))
    assert members(slices, "own") == inside


def test_an_expression_that_names_nothing_is_refused():
    with pytest.raises(InvalidInput, match="'kind=c', which fits no slice"):
        named("own", "kind=c", BOTH)
    with pytest.raises(InvalidInput, match="is empty"):
        named("own", "kind=a & kind=b", BOTH)


def test_a_policys_slices_come_beside_those_of_the_data_set_and_may_overlap():
    slicing = Slicing(depth=2, min_images=2, columns=("kind", "size"), image={"brightness": 2}, named={"own": "kind=a"})
    found = apply_slicing(BOTH, slicing, {"brightness": np.arange(6.0)})
    assert found.names == (*BOTH.names, "brightness=below 2.5", "brightness=2.5 and over", "kind=b & size=s", "own")
    assert members(found, "own") == [0, 1]
    with pytest.raises(InvalidInput, match="crosses colour"):
        apply_slicing(BOTH, Slicing(columns=("colour",)), {})


def test_readings_of_a_product_are_those_of_its_images():
    (product,) = cross_columns((KIND, SIZE), 2, 2)
    slices = Slices(6, (product,))
    found = list(paired_readings("x", np.ones(6), np.array([0, 0, 0, 1, 0, 0.0]), slices, None, 0.05))
    (loss,) = [item.outcome for item in found if item.metric == "drop.x" and item.slice == "kind=b & size=s"]
    assert (loss.value, loss.images, loss.lost, loss.won) == (0.5, 2, 1, 0)


def test_a_case_measures_the_slices_that_were_asked_for():
    levels = [0.1, 0.3, 0.45, 0.55, 0.7, 0.9]
    whole = grey_dataset(levels)
    measured = properties_of(whole, ("brightness",))
    assert measured["brightness"] == pytest.approx(levels)
    dataset = ReslicedDataset(whole, apply_slicing(whole.slices, Slicing(image={"brightness": 2}), measured))
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(), whole)
    case.dataset = dataset
    found = {reading.slice: reading.outcome for reading in case.compare("x") if reading.metric == "drop.x"}
    assert (found["brightness=below 0.5"].lost, found["brightness=0.5 and over"].lost) == (0, 1)


def test_image_properties_order_images_as_the_eye_does():
    flat = torch.full((1, 3, 16, 16), 0.5)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * torch.ones(1, 3, 16, 16)
    red = flat * torch.tensor([1.8, 0.2, 0.2])[:, None, None]
    found = {name: measure(torch.cat([flat, board.float(), red])).tolist() for name, measure in PROPERTIES.items()}
    assert found["contrast"][1] > 0.4 > found["contrast"][0] == pytest.approx(0, abs=1e-6)
    assert found["sharpness"][1] > found["sharpness"][2]
    assert found["colourfulness"][2] > 0.2 > found["colourfulness"][0] == pytest.approx(0, abs=1e-6)
    assert found["brightness"][:2] == pytest.approx([0.5, 0.5])
    with pytest.raises(InvalidInput, match="mood"):
        properties_of(grey_dataset([0.5]), ("mood",))
