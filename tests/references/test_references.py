"""Conventions against libraries that state theirs: absent classes and void pixels, combining characters, groups."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditsvc.checks.fairness import Fairness
from auditsvc.checks.semantic_segmentation import SemanticSegmentation
from auditsvc.checks.text_recognition import TextRecognition
from auditsvc.datasets import Slices, column_from
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
