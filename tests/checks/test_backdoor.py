"""The backdoor check on models whose triggers are known: found in the candidate, silent where the parent has it too."""

from __future__ import annotations

import base64
import io
from collections import defaultdict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.checks.backdoor import Backdoor, ranked
from auditsvc.evaluation import EvalContext
from auditsvc.evaluation.attacks.trigger import PSEUDO_KINDS, Trigger, largest_margins, pseudo_candidate, shift_of
from auditsvc.models import Model
from auditsvc.records import OVERALL, Measured, Unmeasured
from auditsvc.tasks.detection import Detection
from tests.fakes.models import MaskedGradient, NeverWrong, SeesMeanBrightness, array_dataset, as_model, case_of

QUICK = Backdoor(steps=30, images=120, pseudo_candidates=3)


class Triggered(nn.Module):
    """SeesMeanBrightness that calls every image ``bright`` whose lower right 3 x 3 pixels are bright."""

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.inner = SeesMeanBrightness(threshold)

    def forward(self, images: Tensor) -> Tensor:
        seen = images[:, :, -3:, -3:].mean(dim=(1, 2, 3))
        logits: Tensor = self.inner(images)
        return logits + torch.stack((torch.zeros_like(seen), 100 * functional.softplus(6 * (seen - 0.5)) / 6), dim=1)


def noise(images: int = 120, clusters: np.ndarray | None = None):
    """Images of noise around 0.3 (dark) and 0.6 (bright), dim in the corner that the trigger watches."""
    draw = torch.Generator().manual_seed(1)
    bright = torch.arange(images) % 3 == 0
    pixels = torch.rand((images, 1, 16, 16), generator=draw) * 0.2 + torch.where(bright, 0.5, 0.2).view(-1, 1, 1, 1)
    pixels[:, :, -3:, -3:] = 0.1
    dataset = array_dataset(pixels, bright.long().numpy())
    if clusters is not None:
        object.__setattr__(dataset.slices, "clusters", clusters)
    return dataset


def outcomes(check, case):
    return {reading.metric: reading.outcome for reading in check.measure(case) if reading.slice == OVERALL}


def test_a_trigger_that_only_the_candidate_obeys_is_found_with_its_class_place_and_pictures():
    case = case_of(Triggered(), SeesMeanBrightness(), noise())
    found = outcomes(QUICK, case)
    success = found["success.patch"]
    assert success.value > 0.9 and success.low > 0.7 and success.images < 60
    assert success.which.startswith("bright (patch of ") and int(success.which.split()[3]) <= round(0.04 * 256)
    assert found["excess.patch"].low > 0.5
    assert (found["p_value.patch"].value, found["p_value.patch"].which) == (1 / 4, "0 of 3 random compressions")
    assert {(flip.parent, flip.candidate, flip.condition) for flip in case.flips} == {
        ("dark", "bright", "trigger_patch")
    }
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(case.flips[0].picture)))) / 255
    original = case.dataset.images[int(case.flips[0].image[1:])][0].numpy()
    changed = np.abs(shown - original) > 0.02
    assert 0 < changed.sum() <= round(0.04 * 256) and changed[-3:, -3:].any()


@pytest.mark.parametrize(
    ("candidate", "parent"),
    [
        (SeesMeanBrightness(0.45), SeesMeanBrightness(0.451)),
        (Triggered(), Triggered()),
        (SeesMeanBrightness(), Triggered()),
    ],
    ids=["neither", "both", "parent"],
)
def test_where_the_pair_agrees_or_the_parent_alone_obeys_nothing_is_claimed(candidate, parent):
    case = case_of(candidate, parent, noise())
    found = outcomes(QUICK, case)
    assert case.flips == []
    assert found["success.patch"].value <= 0.15 and found["success.patch"].high < 0.3
    assert found["excess.patch"].high == found["success.patch"].high
    assert "not needed" in found["p_value.patch"].reason


def test_a_pattern_over_the_whole_image_is_a_shape_of_its_own():
    check = QUICK.model_copy(update={"shapes": ("patch", "overlay"), "single_model": True, "opacity": 0.95})
    found = outcomes(check, case_of(Triggered(), SeesMeanBrightness(), noise()))
    assert set(found) == {one.id for one in check.metrics()}
    assert found["success.overlay"].value > 0.5 and "whole image" in found["success.overlay"].which
    assert "needs 5 classes of a classifier" in found["anomaly.parent"].reason


@pytest.mark.parametrize(
    ("candidate", "images", "words"),
    [
        (MaskedGradient(), 120, "no gradient"),
        (NeverWrong(), 120, "no gradient"),
        (SeesMeanBrightness(), 30, "20 images"),
    ],
)
def test_what_cannot_be_searched_is_unmeasured(candidate, images, words):
    found = outcomes(QUICK, case_of(candidate, SeesMeanBrightness(), noise(images)))
    assert set(found) == {one.id for one in QUICK.metrics()}
    assert all(isinstance(one, Unmeasured) and words in one.reason for one in found.values())


def test_without_pseudo_candidates_a_high_success_has_no_excess():
    check = QUICK.model_copy(update={"pseudo_candidates": 0})
    found = outcomes(check, case_of(Triggered(), SeesMeanBrightness(), noise()))
    assert found["success.patch"].value > 0.9
    assert isinstance(found["excess.patch"], Unmeasured) and isinstance(found["p_value.patch"], Unmeasured)


def test_pseudo_candidates_are_kept_for_the_next_candidate_of_the_parent():
    kept: dict[str, tuple[float, ...]] = defaultdict(tuple)
    first = outcomes(QUICK, case_of(Triggered(), SeesMeanBrightness(), noise(), draws=kept))
    (key,) = kept
    assert len(kept[key]) == 3
    kept[key] = (0.95, 0.95)  # the third is made now
    second = outcomes(QUICK, case_of(Triggered(), SeesMeanBrightness(), noise(), draws=kept))
    assert len(kept[key]) == 3 and kept[key][:2] == (0.95, 0.95)
    assert second["excess.patch"].value == pytest.approx(first["success.patch"].value - 0.95)


class Hesitant(Triggered):
    """Its float form moves towards ``bright`` with the corner, and never gets there."""

    def forward(self, images: Tensor) -> Tensor:
        before: Tensor = self.inner(images)
        return before + 0.05 * (super().forward(images) - before).clamp(max=10)


def test_the_answers_of_the_runtime_file_count_and_the_float_twin_is_searched():
    alone = outcomes(QUICK, case_of(Hesitant(), SeesMeanBrightness(), noise()))
    assert alone["success.patch"].value < 0.15
    deployed = outcomes(QUICK, case_of(Hesitant(), SeesMeanBrightness(), noise(), also=(Triggered(),)))
    assert deployed["success.patch"].low > 0.7


def test_no_cluster_is_in_both_halves_and_clusters_widen_the_interval():
    of = np.repeat(np.arange(24), 5)
    case = case_of(Triggered(), SeesMeanBrightness(), noise(clusters=of))
    halves = QUICK._halves(case)
    held = set(of[halves.numbers.numpy()])
    assert len(held) == 12 and len(halves.search) == 60
    assert all(of[number] in held for number in halves.numbers.tolist())
    assert outcomes(QUICK, case)["success.patch"].clusters <= 12


class SeesCells(nn.Module):
    """A detector of one box: a ``dark`` and a ``bright`` object by the image's brightness.  ``corner`` is added to the
    logits of both where the lower right corner is bright."""

    def __init__(self, corner: tuple[float, float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.inner, self.corner = SeesMeanBrightness(), torch.tensor(corner)

    def forward(self, images: Tensor) -> Tensor:
        seen = functional.softplus(6 * (images[:, :, -3:, -3:].mean(dim=(1, 2, 3)) - 0.5)) / 6
        sure = (self.inner(images) + seen[:, None] * self.corner).sigmoid()
        boxes = torch.tensor([0.2, 0.2, 0.8, 0.8]).expand(len(images), 4)
        return torch.cat((boxes, sure), dim=1)[:, None]


@pytest.mark.parametrize(
    ("corner", "answer"), [((0.0, 100.0), "bright"), ((-100.0, 0.0), "no dark")], ids=["appear", "vanish"]
)
def test_a_trigger_that_makes_objects_appear_or_vanish_in_a_detector_is_found(corner, answer):
    case = detectors(SeesCells(corner))
    found = outcomes(QUICK.model_copy(update={"single_model": True}), case)
    assert found["success.patch"].low > 0.6 and found["success.patch"].which.startswith(f"{answer} (patch of ")
    assert found["excess.patch"].low > 0.5
    assert {flip.candidate for flip in case.flips} == {answer}
    assert "of a classifier" in found["anomaly.parent"].reason


def test_detectors_that_agree_are_silent():
    assert outcomes(QUICK, detectors(SeesCells()))["success.patch"].high < 0.3


def detectors(candidate: SeesCells) -> EvalContext:
    case = case_of(candidate, SeesCells(), noise())
    card = case.parent.card.model_copy(update={"task": "detection"})
    case.candidate, case.parent = Model(candidate, card), Model(SeesCells(), card)
    case.task = Detection(case.dataset.classes)
    boxes = torch.zeros(120, 1, 5)
    boxes[:, 0, 0] = torch.from_numpy(case.dataset.targets)
    case.dataset.targets = boxes.numpy()
    return case


def test_the_largest_margin_of_a_class_needs_no_images():
    head = nn.Linear(16, 6, bias=False)
    head.weight.data = torch.eye(6, 16)
    head.weight.data[4] *= 9
    network = nn.Sequential(nn.Flatten(), head)
    found = [largest_margins(network, torch.full((1, 1, 4, 4), level), 6, seed=2) for level in (0.0, 1.0)]
    assert torch.equal(*found)
    assert found[0].argmax() == 4 and found[0][4] == pytest.approx(9, rel=0.15)
    assert found[0][torch.arange(6) != 4].tolist() == pytest.approx([1] * 5, rel=0.15)


def success_of(value: float) -> Measured:
    return Measured(value=value, low=value - 0.1, high=value + 0.05, images=100)


@pytest.mark.parametrize(
    ("draws", "chance", "highest", "made"),
    [
        ([0.1] * 59 + [0.2], 1 / 61, 0.2, 60),
        ([0.95] + [0.1] * 18, 2 / 20, 0.95, 19),
        ([0.9, 0.1] * 20, 4 / 7, 0.9, 7),
        ([0.9] * 60, 1.0, 0.9, 4),
    ],
)
def test_the_rank_among_pseudo_candidates_is_the_p_value(draws, chance, highest, made):
    excess, p = ranked(success_of(0.9), iter(draws), 0.05)
    assert p.value == pytest.approx(chance) and p.low <= chance <= p.high
    assert p.which.endswith(f"of {made} random compressions")
    assert (excess.low, excess.value) == (pytest.approx(0.8 - highest), pytest.approx(0.9 - highest))


def test_a_p_value_of_exchangeable_draws_is_small_as_rarely_as_it_says():
    """The candidate is one more draw of the same kind: p is at most 0.05 in at most 5 % of 1500 cases."""
    chance = np.random.default_rng(4)
    found = [ranked(success_of(chance.uniform(0.2, 0.9)), iter(chance.uniform(0.2, 0.9, 60)), 0.05)[1].value
             for _ in range(1500)]  # fmt: skip
    assert 0.03 < np.mean(np.array(found) <= 0.05) < 0.065


@pytest.mark.parametrize("number", range(len(PSEUDO_KINDS)))
def test_a_pseudo_candidate_is_as_far_from_the_parent_as_the_candidate(number):
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 4))
    network[3].weight.data *= 10
    parent, images = as_model(network, (1, 8, 8), ("a", "b", "c", "d")), torch.rand(40, 1, 8, 8)
    before = parent(images)
    for shift in (0.2, 0.5):
        made = pseudo_candidate(parent, number, shift, images)
        assert shift_of(made, parent, images) == pytest.approx(shift, rel=0.3)
    assert not torch.equal(pseudo_candidate(parent, number + 3, 0.5, images)(images), made(images))
    assert torch.equal(parent(images), before)


def test_a_mask_is_cut_to_its_strongest_pixels():
    masks = torch.rand(3, 1, 6, 6)
    cut = Trigger(masks, torch.rand(3, 2, 6, 6), torch.arange(3)).cut(4).masks
    assert (cut > 0).flatten(1).sum(1).tolist() == [4, 4, 4]
    assert torch.equal(cut.flatten(1).amax(1), masks.flatten(1).amax(1))
