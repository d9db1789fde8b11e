"""Outputs in any known layout become the one that a task takes, and others are refused with what was expected."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.models.model import decoded
from auditsvc.records.architecture import Decoding
from auditsvc.tasks import task_named


def card(task: str, classes: tuple[str, ...], decoding: Decoding | None = None) -> ArchitectureCard:
    spec = InputSpec(channels=3, height=40, width=80)
    return ArchitectureCard(architecture="x", task=task, classes=classes, input=spec, decoding=decoding)


def test_centres_and_sizes_in_pixels_become_corners_in_shares():
    pixels = torch.tensor([[[40.0], [20.0], [20.0], [10.0], [0.9], [0.2]]])
    found = decoded(pixels, card("detection", ("a", "b"), Decoding(layout="yolo")))
    torch.testing.assert_close(found, torch.tensor([[[0.375, 0.375, 0.625, 0.625, 0.9, 0.2]]]))


def test_objectness_multiplies_the_classes():
    rows = torch.tensor([[[40.0, 20.0, 20.0, 10.0, 0.5, 0.8, 0.2]]])
    found = decoded(rows, card("detection", ("a", "b"), Decoding(layout="yolo-objectness")))
    torch.testing.assert_close(found[0, 0, 4:], torch.tensor([0.4, 0.1]))


def test_a_cell_of_a_grid_has_its_centre_near_its_corner():
    cells = torch.zeros(1, 7, 2, 4)
    down, height = torch.atanh(torch.tensor(0.5)), torch.logit(torch.tensor(0.25))
    cells[0, :, 1, 2] = torch.tensor([0.5, 0.0, down, 0.0, height, 0.9, 0.1])
    found = decoded(cells, card("detection", ("a", "b"), Decoding(layout="grid")))[0, 6]
    sure = [0.5**0.6 * 0.9**0.4, 0.5**0.6 * 0.1**0.4]
    torch.testing.assert_close(found, torch.tensor([0.25, 0.625, 0.75, 0.875, *sure]))


def test_the_operating_point_is_moved_to_one_half_and_the_order_stays():
    sure = torch.linspace(0.01, 0.99, 50)
    rows = torch.cat((torch.zeros(1, 50, 4), sure[None, :, None]), dim=2)
    found = decoded(rows, card("detection", ("a",), Decoding(layout="boxes", confidence=0.3)))[0, :, 4]
    assert torch.equal(found >= 0.5, sure >= 0.3)
    assert torch.equal(found.argsort(), sure.argsort())


@pytest.mark.parametrize("layout", ["ctc", "ctc-channels"])
def test_nothing_stands_last_wherever_it_stood(layout):
    steps = torch.rand(2, 5, 4)
    moved = torch.cat((steps[..., 1:], steps[..., :1]), dim=2)
    given = steps if layout == "ctc" else steps.transpose(1, 2)
    assert torch.equal(decoded(given, card("ocr", ("a", "b", "c"), Decoding(layout=layout, blank="first"))), moved)
    assert torch.equal(decoded(given, card("ocr", ("a", "b", "c"), Decoding(layout=layout))), steps)


def test_characters_that_no_text_has_are_wrong_answers_and_not_silence():
    own = card("ocr", ("b", "a"), Decoding(layout="ctc", blank="first"))
    own = own.model_copy(update={"output_classes": ("a", "x", "b", "y"), "output_activation": "softmax"})
    said = nn.functional.one_hot(torch.tensor([[3, 0, 2, 1, 4]]), 5).float()  # b, blank, x, a, y
    task, logits = task_named("ocr", own.classes), decoded(said, own)
    assert logits.shape == (1, 5, 4) and logits.max() == 0
    assert task.read(logits).tolist() == [[0, 2, 1, 2, -1]]
    judged = task.score_batch(logits, torch.tensor([[0, 1]]))
    assert judged.tally[0, :2].tolist() == [2, 2] and judged.score.item() == 0


def test_one_logit_for_the_foreground_becomes_two():
    logits = torch.tensor([[[[3.0, -3.0]]]])
    assert decoded(logits, card("segmentation", ("ground", "thing"))).argmax(1).tolist() == [[[1, 0]]]


@pytest.mark.parametrize("shape", [(2, 6, 9), (2, 6), (2, 9, 7)])
def test_another_shape_is_refused_with_both(shape):
    with pytest.raises(InvalidInput, match=r"is \(N, any, 6\); the model gives \(2, "):
        decoded(torch.rand(shape), card("detection", ("a", "b")))


def test_a_layout_of_another_task_is_refused():
    with pytest.raises(ValidationError, match="classification has no layout 'yolo'; it has none"):
        card("classification", ("a", "b"), Decoding(layout="yolo"))


class Fixed(nn.Module):
    """Says the same of every image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_tensor([[[40.0], [20.0], [20.0], [10.0], [0.9]]]).expand(len(images), -1, -1)


def test_a_model_answers_as_its_task_takes_it_and_is_exported_as_it_was():
    model = Model(Fixed(), card("detection", ("a",), Decoding(layout="yolo")))
    images = torch.rand(2, 3, 40, 80)
    assert model(images).shape == (2, 1, 5) and model.raw(images).shape == (2, 5, 1)
