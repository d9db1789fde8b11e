"""Conventions against libraries that state theirs: absent classes and void pixels, combining characters, groups."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from auditsvc.checks.fairness import Fairness
from auditsvc.checks.semantic_segmentation import SemanticSegmentation
from auditsvc.checks.text_recognition import TextRecognition
from auditsvc.datasets import Slices, column_from
from auditsvc.evaluation.slice_discovery import discovered_slices, halves
from tests.bench.truth import Memory, context, values
from tests.references import recompute


class Stored(nn.Module):
    """Outputs by the number in an image's first pixel."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs[images[:, 0, 0, 0].round().long()]


def numbered(count: int, side: int = 8) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, side, side)).copy()


@pytest.mark.parametrize("seed", range(3))
def test_iou_leaves_out_void_pixels_and_classes_that_are_nowhere(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.choice([0, 1, 2, 255], (40, 8, 8), p=[0.5, 0.3, 0.1, 0.1])  # no pixel of the class "never"
    said = np.where(random.random(truth.shape) < 0.7, truth % 255, random.integers(0, 3, truth.shape))
    logits = nn.functional.one_hot(torch.from_numpy(said), 4).permute(0, 3, 1, 2).float()
    data = Memory.of(numbered(40), torch.from_numpy(truth), ("ground", "a", "b", "never"), "segmentation")
    found = values(SemanticSegmentation(), context(Stored(logits), Stored(logits), data))
    assert found["miou"].value == pytest.approx(recompute.mean_iou(truth, said, 4, 255), abs=1e-9)


def test_character_errors_are_counted_after_composing_characters() -> None:
    pytest.importorskip("jiwer")
    truth = ["café", "naïve", "résumé", "été", "ab"] * 8
    said = ["cafe", "naïve", "resumé", "", "abb"] * 8
    letters = "".join(sorted(set("".join(truth + said))))
    longest = 8
    targets = torch.tensor([[letters.index(one) for one in word] + [-1] * (longest - len(word)) for word in truth])
    steps = torch.full((len(said), 2 * longest), len(letters))
    for row, word in enumerate(said):
        for place, letter in enumerate(word):
            steps[row, 2 * place] = letters.index(letter)
    logits = nn.functional.one_hot(steps, len(letters) + 1).float()
    data = Memory.of(numbered(len(truth)), targets, tuple(letters), "ocr")
    found = values(TextRecognition(), context(Stored(logits), Stored(logits), data))
    apart = [unicodedata.normalize("NFD", word) for word in truth]
    error, exact = recompute.character_errors(apart, said)
    assert (found["cer"].value, found["exact_match"].value) == pytest.approx((error, exact), abs=1e-9)
    assert recompute.read_ctc(logits.numpy(), letters) == said


@pytest.mark.parametrize("seed", range(2))
def test_group_metrics_of_a_check_are_fairlearns(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, groups = random.integers(0, 2, 400), random.integers(0, 3, 400)
    said = np.where(random.random(400) < 0.1 + 0.1 * groups, 1 - truth, truth)
    logits = nn.functional.one_hot(torch.from_numpy(said), 2).float()
    data = Memory.of(numbered(400), torch.from_numpy(truth), ("no", "yes"), "classification")
    data.slices = Slices(400, (column_from("group", [str(one) for one in groups]),))
    found = values(Fairness(min_images=10), context(Stored(logits), Stored(logits), data))
    wanted = recompute.group_metrics(truth, said, groups, 1)
    assert {name: found[name].value for name in wanted} == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_are_found_afterwards_are_judged_by_mcnemars_test_with_holms_correction(seed: int) -> None:
    adjusted = pytest.importorskip("statsmodels.stats.multitest").multipletests
    random = np.random.default_rng(seed)
    made = {name: random.choice([f"{name}{number}" for number in range(3)], 900) for name in ("cam", "town")}
    slices = Slices(900, tuple(column_from(name, list(values)) for name, values in made.items()))
    harm = np.where((made["cam"] == "cam1") & (made["town"] == "town2"), 0.25, 0.03)
    change = (random.random(900) < harm).astype(float) - (random.random(900) < 0.03)
    groups, _ = discovered_slices(change, slices, seed, 0.05)
    judge, chances = halves(900, None, seed)[1], []
    for group in groups:
        parts = [part.split("=") for part in group.expression.split(" & ")]
        inside = np.logical_and.reduce([made[name][judge] == value for name, value in parts])
        lost, won = (int((change[judge][inside] == sign).sum()) for sign in (1, -1))
        chances.append(binomtest(lost, max(lost + won, 1), alternative="greater").pvalue if lost + won else 1.0)
        assert group.held.value == pytest.approx((lost - won) / inside.sum(), abs=1e-12)
    assert [group.adjusted for group in groups] == pytest.approx(list(adjusted(chances, method="holm")[1]), abs=1e-9)
