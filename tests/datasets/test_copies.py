"""Planted copies of real photos are found, whatever was done to them, and different photos stay apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.datasets.copies import SIDE, fingerprints, image_groups, near_pairs, thumbnails_from
from tests.bench.data_quality import COPIES, pictures
from tests.fakes.models import array_dataset


def seen(images):
    pixels = torch.from_numpy(np.stack([np.asarray(image.convert("L")) for image in images])).float() / 255
    return fingerprints(array_dataset(pixels[:, None], np.zeros(len(images), np.int64)))


@pytest.fixture(scope="module")
def faces():
    return pictures("faces", 60)


@pytest.fixture(scope="module")
def whole(faces):
    return seen(faces)


def test_different_photos_are_no_copies(whole):
    assert len(near_pairs(whole.thumbnails, whole.thumbnails)[0]) == 0
    assert image_groups(whole.digests, whole.thumbnails)[1] == 0


@pytest.mark.parametrize("kind", [kind for kind in COPIES if kind != "exact"])
def test_a_copy_is_found_and_nothing_else(kind, faces, whole):
    chance = np.random.default_rng(8)
    copied = seen([COPIES[kind](image, chance) for image in faces[:20]])
    ours, theirs = near_pairs(copied.thumbnails, whole.thumbnails)
    assert set(ours.tolist()) == set(range(20)) and (ours == theirs).all()
    back = near_pairs(whole.thumbnails, copied.thumbnails)
    assert set(back[0].tolist()) == set(range(20)) and (back[0] == back[1]).all()


def test_images_that_show_nothing_are_named_by_what_is_wrong(faces):
    black, white, grey = (np.full((112, 112), value, np.uint8) for value in (0, 255, 90))
    black[:20, :20], white[:20, :20] = 120, 120
    pixels = np.stack([*(np.asarray(image.convert("L")) for image in faces[:8]), black, white, grey])
    found = fingerprints(array_dataset(torch.from_numpy(pixels)[:, None].float() / 255, np.zeros(11, np.int64)))
    assert {name: places.tolist() for name, places in found.unusable.items()} == {
        "blank": [10], "under-exposed": [8], "over-exposed": [9],
    }  # fmt: skip


def test_digits_on_black_are_not_under_exposed():
    assert not any(len(places) for places in seen(pictures("digits", 30)).unusable.values())


def test_smaller_thumbnails_of_older_stores_are_read(whole):
    small = whole.thumbnails.reshape(60, 16, 2, 16, 2).mean((2, 4)).round().astype(np.uint8)
    old = thumbnails_from(small.tobytes(), 60)
    assert old.shape == (60, SIDE, SIDE)
    ours, theirs = near_pairs(old, whole.thumbnails)
    assert set(ours.tolist()) == set(range(60)) and (ours == theirs).all()
