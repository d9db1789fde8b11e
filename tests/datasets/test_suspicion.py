"""Clusters that names and times suggest, and names and times that suggest none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auditsvc.datasets.readers import DatasetReaders
from auditsvc.datasets.suspicion import suspected_clusters
from tests.packs import pack

FRAMES = [f"video{video}_frame{frame:04}.png" for video in range(5) for frame in range(20)]


def found(names, labels=None, taken=(), clusters=None):
    return suspected_clusters(names, labels or ["ab"[place % 2] for place in range(len(names))], taken, clusters)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (FRAMES, 5),
        ([f"frame_{frame:04}.jpg" for frame in range(60)], 1),
        ([f"take2/shot-{shot:02}/{number}.png" for shot in range(12) for number in range(4)], 12),
        ([f"{name}_{number:04}.jpg" for name in map(chr, range(97, 119)) for number in range(1, 4)], 22),
        ([f"p{person}/x_{number}.jpg" for person in range(12) for number in range(4)], 12),
        ([f"IMG_20240501_10{minute:02}{second:02}.jpg" for minute in range(20) for second in (1, 3, 5)], 20),
    ],
)
def test_groups_that_names_say(names, groups):
    words = found(names)[0]
    assert f"{len(names)} of {len(names)} images are in {groups} groups" in words and names[0] in words


@pytest.mark.parametrize(
    "names",
    [
        [f"{number:03}.jpg" for number in range(1000)],
        [f"images/{number}.jpg" for number in range(1000)],
        [f"COCO_val2014_{number:012}.jpg" for number in range(0, 2000, 7)],
        [f"200{year}_{number:06}.jpg" for year in (7, 8, 9) for number in range(60)],  # VOC
        [f"screenshot_{number}.png" for number in range(90)],
        [f"scene_{number:03}.png" for number in range(90)],  # one image of each scene
        [f"{number:05x}.png" for number in np.random.default_rng(0).permutation(10**5)[:300].tolist()],
        [f"IMG_202405{day:02}_101500.jpg" for day in range(1, 31)],
    ],
)
def test_names_that_say_nothing(names):
    assert found(names) == ()


def test_a_counter_of_each_class_says_nothing():
    names = [f"n{kind:04}/{number:03}.png" for kind in range(30) for number in range(5)]
    assert found(names, [name[:5] for name in names]) == ()
    assert len(found(names)) == 1


def test_declared_clusters_are_no_suspicion_unless_they_split_the_groups():
    video = np.array([int(name[5]) for name in FRAMES])
    assert found(FRAMES, clusters=video) == () == found(FRAMES, clusters=video // 2)
    assert len(found(FRAMES, clusters=np.arange(100))) == 1


def test_times_of_one_camera(tmp_path: Path):
    taken = [("camera", 100.0 * (place // 3) + place % 3) for place in range(60)]
    names = [f"{place}.jpg" for place in range(60)]
    assert "in 20 groups of one camera within 5 s" in found(names, taken=taken)[0]
    assert found(names, taken=[(str(place % 3), when) for place, (_, when) in enumerate(taken)]) == ()
    assert found(names, taken=[("camera", 7.0)] * 60) == ()  # when they were copied


def photographs(folder: Path, more: str = "") -> Path:
    folder.mkdir()
    rows = ["image,label,shot"]
    for number in range(24):
        image, exif = Image.fromarray(np.random.default_rng(number).integers(0, 255, (8, 8), np.uint8)), Image.Exif()
        exif[0x0110] = "camera"
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 10:{number // 2:02}:{number % 2:02}"
        image.save(folder / f"{number}.jpg", exif=exif)
        rows.append(f"{number}.jpg,{'ab'[number % 2]},{number // 2}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    (folder / "dataset.yaml").write_text(
        f"name: p\ntask: classification\ntarget: label\nclasses: [a, b]\nsource: t\nlicence: t\n{more}"
    )
    return folder


def test_a_data_set_of_bursts_says_so_unless_it_declares_them_or_why_there_are_none(tmp_path: Path):
    plain = DatasetReaders().open(photographs(tmp_path / "plain")).ref
    declared = DatasetReaders().open(photographs(tmp_path / "declared", "cluster: shot\n")).ref
    single = DatasetReaders().open(photographs(tmp_path / "single", "independent: other people in each\n")).ref
    assert plain.suspected and "24 of 24 images are in 12 groups of one camera" in plain.suspected[0]
    assert declared.suspected is None and single.suspected is None
    assert single.independent == "other people in each" and any("other people" in note for note in single.notes or ())
    assert len({plain.digest, declared.digest, single.digest}) == 3


@pytest.mark.parametrize("name", ["congress-faces", "bccd-cells", "dsb2018-nuclei", "plates-ocr"])
def test_names_of_ordinary_packs_say_nothing(name):
    assert found([path.name for path in sorted((pack(name) / "images").rglob("*.*"))]) == ()
