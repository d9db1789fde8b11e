"""Membership inference on scores whose area is known, on a network that memorised, and on samples that differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditsvc.checks.membership import Membership, _Placed, _Samples, area, combined, margins
from auditsvc.records import OVERALL, Unmeasured
from tests.fakes.models import array_dataset, case_of

SIDE = 40


class Plane(nn.Module):
    """Two classes split by a plane that was fitted to some images exactly, or by a random one."""

    def __init__(self, images: Tensor | None = None, targets: Tensor | None = None) -> None:
        super().__init__()
        self.weights = torch.randn(SIDE * SIDE, generator=torch.Generator().manual_seed(3))
        if images is not None and targets is not None:
            flat = images.flatten(1) - 0.5
            self.weights = flat.T @ torch.linalg.solve(flat @ flat.T, 2.0 * targets.float() - 1)

    def forward(self, images: Tensor) -> Tensor:
        over = (images.flatten(1) - 0.5) @ self.weights
        return torch.stack((-over, over), dim=1)


def samples(members: int = 100, others: int = 320, brighter: float = 0.0):
    """Noise with random labels; the first images are the members."""
    draw = torch.Generator().manual_seed(1)
    images = torch.rand((members + others, 1, SIDE, SIDE), generator=draw)
    images[members:] += brighter
    targets = torch.randint(0, 2, (members + others,), generator=draw)
    whose = ["member"] * members + ["other"] * others
    return array_dataset(images, targets.numpy(), {"membership": whose}), images[:members], targets[:members]


def outcomes(candidate, parent, dataset, check=None):
    found = list((check or Membership()).measure(case_of(candidate, parent, dataset)))
    assert {one.slice for one in found} == {OVERALL}
    assert {one.metric for one in found} == {one.id for one in Membership().metrics()}
    return {one.metric: one.outcome for one in found}


def test_a_network_that_memorised_its_images_is_read_from_its_answers():
    dataset, images, targets = samples()
    found = outcomes(Plane(images, targets), Plane(), dataset)
    assert found["auc.candidate"].value > 0.9 and found["auc.candidate"].low > 0.85
    assert found["auc.parent"].low < 0.5 < found["auc.parent"].high
    assert found["auc_change.candidate"].low > 0.3 and found["auc.both"].value > 0.9
    assert found["tpr.candidate"].value > 0.5 and found["tpr.parent"].low < 0.02
    assert all(one.low <= one.value <= one.high and one.images == 420 for one in found.values())


def test_two_equal_models_change_nothing():
    dataset, images, targets = samples()
    found = outcomes(Plane(images, targets), Plane(images, targets), dataset)
    assert found["auc_change.candidate"].value == 0
    assert found["auc_change.candidate"].low < 0 < found["auc_change.candidate"].high


@pytest.mark.parametrize(
    ("dataset", "check", "words"),
    [
        (samples(brighter=0.3)[0], Membership(), "differ in their pixels"),
        (samples(members=30)[0], Membership(), "there are 30 and 320"),
        (samples(60, 60)[0], Membership(members="split=train"), "no slice split=train"),
    ],
    ids=["another distribution", "few", "undeclared"],
)
def test_without_two_samples_of_one_distribution_nothing_is_measured(dataset, check, words):
    found = outcomes(Plane(), Plane(), dataset, check)
    assert all(isinstance(one, Unmeasured) and words in one.reason for one in found.values())


def test_a_rate_at_one_percent_needs_images_enough_for_one_percent():
    dataset, images, targets = samples(100, 100)
    found = outcomes(Plane(images, targets), Plane(), dataset)
    assert found["auc.candidate"].value > 0.9
    assert "300 independent images" in found["tpr.candidate"].reason


def test_margins_are_log_odds_that_never_saturate():
    logits, targets = torch.randn(50, 4, dtype=torch.float64), torch.arange(50) % 4
    p = logits.softmax(1)[torch.arange(50), targets]
    assert torch.allclose(margins(logits, targets), torch.log(p / (1 - p)))
    sure = margins(torch.tensor([[200.0, 0, 0], [300.0, 0, 0]]), torch.tensor([0, 0]))
    assert sure[0] < sure[1] < torch.inf


def test_the_area_counts_pairs_and_ties_as_halves_and_its_error_is_delongs():
    chance = np.random.default_rng(2)
    scores, inside = chance.integers(0, 6, 60).astype(float), np.arange(60) < 25
    x, y = scores[inside], scores[~inside]
    above = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    placed = _Placed.of(scores, inside)
    assert placed.value == pytest.approx(above.mean())
    delong = above.mean(1).var() / len(x) + above.mean(0).var() / len(y)
    assert (placed.off**2).sum() == pytest.approx(delong)


def test_the_interval_of_guessing_holds_one_half_as_often_as_it_says():
    chance = np.random.default_rng(8)
    inside, alone, together = np.arange(240) < 120, np.arange(240), np.repeat(np.arange(60), 4)
    missed = {"images": 0, "clusters": 0}
    for _ in range(300):
        noise = chance.normal(size=240)
        found = area(_Placed.of(noise, inside), alone, 0.025)
        missed["images"] += not found.low <= 0.5 <= found.high
        shared = np.repeat(chance.normal(size=60), 4) + 0.3 * noise
        found = area(_Placed.of(shared, inside), together, 0.025)
        missed["clusters"] += not found.low <= 0.5 <= found.high
    assert all(0.02 <= number / 300 <= 0.085 for number in missed.values()), missed


def test_both_versions_together_can_leak_what_neither_does():
    """Compression moves members in either direction and leaves the others: only the distance tells."""
    chance = np.random.default_rng(5)
    inside = np.arange(600) < 300
    parent = chance.normal(size=600)
    candidate = parent + np.where(inside, 1.0, 0.2) * chance.normal(size=600)
    both = combined(parent, candidate, inside, np.arange(600), 1)
    found = [_Placed.of(one, inside).value for one in (parent, candidate, both)]
    assert max(found[:2]) < 0.56 and found[2] > 0.75


def test_the_rate_has_the_threshold_in_its_interval():
    inside = np.arange(2000) < 1000
    chance = np.random.default_rng(3)
    missed = 0
    for _ in range(100):
        scores = np.where(inside, 1.5, 0.0) + chance.normal(size=2000)
        found = _Samples(inside, np.arange(2000), {"parent": scores}, independent=True).rate("parent", 0.025)
        missed += not found.low <= 0.2042 <= found.high  # P(N(1.5, 1) > 2.3263)
    assert missed <= 5
