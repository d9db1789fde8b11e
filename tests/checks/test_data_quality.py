"""What is planted in a data set is the reading, and what is not known is unmeasured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.data_quality import DataQuality
from auditsvc.datasets.copies import fingerprints
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.evaluation import DataFacts
from auditsvc.evaluation.metrics.label_noise import out_of_fold, suspects
from auditsvc.records import OVERALL, Measured
from auditsvc.services.data_cards import data_facts
from auditsvc.services.data_examination import examine
from auditsvc.services.holdout import record_images_seen
from tests.contracts.sample import a_candidate, a_parent
from tests.fakes.models import SeesMeanBrightness, array_dataset, case_of
from tests.services.line import data_in, ports_in

LEVELS = np.r_[np.linspace(0.05, 0.4, 50), np.linspace(0.6, 0.95, 50)]


def planted(flipped=(), levels=LEVELS):
    """50 dark and 50 bright images of random texture, with these labels turned round."""
    rng = np.random.default_rng(4)
    pixels = torch.from_numpy(levels[:, None, None, None] + rng.uniform(-0.04, 0.04, (len(levels), 3, 16, 16))).float()
    labels = (levels > 0.5).astype(np.int64)
    labels[list(flipped)] ^= 1
    return array_dataset(pixels, labels, {"half": ["a", "b"] * (len(levels) // 2)})


def readings(dataset, check=None, facts=None):
    case = case_of(SeesMeanBrightness(0.7), SeesMeanBrightness(), dataset)
    case.data_facts = None if facts is None else lambda: facts
    found = {(one.metric, one.slice): one.outcome for one in (check or DataQuality()).measure(case)}
    assert {name for name, where in found if where == OVERALL} == {one.id for one in DataQuality().metrics()}
    return found


def test_wrong_labels_are_counted_named_and_left_out_of_the_loss():
    found = readings(planted(flipped=(3, 60, 99)))
    noise = found["label_noise", OVERALL]
    assert noise.value == pytest.approx(0.03) and noise.low < 0.03 < noise.high and noise.images == 100
    assert noise.which == "#3, #60, #99"
    clean = readings(planted())
    assert clean["label_noise", OVERALL].value == 0
    for metric in ("score.trusted", "parent.trusted", "drop.trusted"):
        assert found[metric, OVERALL].images == 97 and (metric, "half=a") in found
    assert found["parent.trusted", OVERALL].value == clean["parent.trusted", OVERALL].value == 1


def test_what_the_index_says_is_measured_and_what_it_does_not_say_is_not():
    found = readings(planted(), facts=DataFacts(200, 20, 2, 0, "not declared"))
    assert (found["copies", OVERALL].value, found["unusable", OVERALL].value) == (0.1, 0.01)
    assert found["copies", OVERALL].high > 0.1 and found["leaked", OVERALL].value == 0
    assert found["shared_subjects", OVERALL].reason == "not declared"
    nothing = readings(planted())
    assert not any(isinstance(nothing[name, OVERALL], Measured) for name in ("copies", "leaked", "representation"))


def test_shares_are_compared_with_the_target():
    check = DataQuality(target={"half=a": 0.8, "half=b": 0.1, "half=c": 0.1})
    found = readings(planted(), check)
    assert found["representation", OVERALL].value == pytest.approx(0.4)
    assert (found["empty_groups", OVERALL].value, found["missing_images", OVERALL].value) == (1, 40)
    assert "half=a: 30 images are missing" in found["representation", OVERALL].which
    assert found["imbalance", OVERALL].value == 1


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_the_estimate_without_a_model_is_near_the_truth(share):
    rng = np.random.default_rng(7)
    features = np.repeat(np.eye(3), 200, axis=0) + rng.normal(0, 0.15, (600, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.repeat(np.arange(3), 200)
    wrong = rng.random(600) < share
    given = np.where(wrong, (labels + rng.integers(1, 3, 600)) % 3, labels)
    found = suspects(out_of_fold(features, given, 3), given)
    assert abs(found.mean() - wrong.mean()) < 0.03 and found[wrong].mean() > 0.9 and wrong[found].mean() > 0.8


def test_facts_are_of_the_ledger(tmp_path):
    """Not recorded is unknown; recorded, with and without declared subjects, is known as far as it goes."""
    ctx, candidate = ports_in(tmp_path), a_candidate()
    ctx.ledger.append(a_parent(), candidate, actor="test")
    audit = ctx.datasets.open(data_in(tmp_path / "audit"))
    assert isinstance(audit, ImageDataset)
    before = data_facts(ctx, candidate, audit)
    assert "not recorded which images" in before.leaked and before.images == 60
    train = ctx.datasets.open(data_in(tmp_path / "train", seed=3))
    record_images_seen(ctx, candidate.parent, train, "training")
    after = data_facts(ctx, a_candidate(), audit)
    assert after.leaked == 0 or "made this candidate" in after.leaked


def test_data_check_lists_what_to_review():
    levels = LEVELS.copy()
    dataset = planted(flipped=(7,), levels=levels)
    dataset.images[20] = dataset.images[10]
    quality, none = examine(dataset, {"train": planted(levels=levels)})
    assert none is None and quality.counts["copies"] == 2 and quality.shares["copies"][1] < 0.02
    listed = {(one.image, one.fault) for one in quality.suspects}
    assert {("#10", "copies"), ("#20", "copies"), ("#0", "also in train")} <= listed
    assert quality.shared["train"]["images"] == 100
    assert quality.table().splitlines()[0] == "image,fault,why"
    assert any("declare a `cluster`" in note for note in quality.notes)
    assert fingerprints(dataset).digests[10] == fingerprints(dataset).digests[20]
