"""A network whose classes are in another order than the data set's is read by their names."""

from __future__ import annotations

import pytest
import torch

from auditsvc.errors import Refused
from auditsvc.importing import open_onnx
from auditsvc.models import InputSpec
from auditsvc.models.model import decoded
from auditsvc.models.model_files import class_fields
from auditsvc.records.architecture import ArchitectureCard, Decoding, ModelDescription
from auditsvc.tasks import task_named
from tests.importing.graphs import brightness

SIZE = InputSpec(channels=1, height=28, width=28)
IMAGES = torch.linspace(0.05, 0.95, 6).view(6, 1, 1, 1).expand(6, 1, 28, 28).contiguous()


def test_outputs_are_brought_into_the_order_of_the_data_set() -> None:
    """Said or not, the same file answers *bright* where the image is bright."""
    plain = open_onnx(brightness(), ModelDescription(classes=("dark", "bright")))
    like = ModelDescription(task="classification", classes=("bright", "dark"), input=SIZE)
    turned = open_onnx(brightness(), ModelDescription(classes=("Dark", "Bright")), like)
    assert (turned.card.classes, turned.card.output_classes) == (("bright", "dark"), ("dark", "bright"))
    assert torch.equal(turned(IMAGES), plain(IMAGES).flip(1))
    assert torch.equal(turned.layers(IMAGES), plain.layers(IMAGES).flip(1))
    assert plain.card.output_classes is None and "output_classes" not in plain.card.canonical().decode()


@pytest.mark.parametrize(
    ("own", "wanted", "task", "words"),
    [(("a", "b"), ("a", "c"), "classification", "the data set alone has c"),
     (("a", "b", "c"), ("a", "d"), "classification", "the model alone has c"),
     (("a",), ("a", "b"), "detection", "the data set alone has b")],
)  # fmt: skip
def test_other_classes_are_refused_by_name(own, wanted, task, words) -> None:
    with pytest.raises(Refused) as caught:
        class_fields(own, wanted, task)
    assert words in caught.value.reasons


def test_names_that_differ_in_case_alone_are_one_class_unless_both_are_there() -> None:
    assert class_fields(("T-Shirt", "coat"), ("coat", "t shirt"), "classification") == {
        "classes": ("coat", "t shirt"), "output_classes": ("t shirt", "coat"),
    }  # fmt: skip
    assert class_fields(("a", "A"), ("A", "a"), "classification")["output_classes"] == ("a", "A")
    assert class_fields(("a", "b"), ("a", "b"), "ocr") == {"classes": ("a", "b")}
    assert class_fields(("a", "b"), (), "ocr") == {"classes": ("a", "b")}


def test_a_detector_may_have_classes_that_the_data_set_lacks() -> None:
    card = ArchitectureCard(
        architecture="x", task="detection", classes=("dog", "cat"), output_classes=("cat", "car", "dog"), input=SIZE
    )
    raw = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]]])
    assert decoded(raw, card)[0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.7, 0.5])


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_an_answer_that_no_image_has_is_wrong(task: str) -> None:
    """An ImageNet network on some of its classes: nothing is left out, so its answers are those that ship."""
    card = ArchitectureCard(
        architecture="x", task=task, classes=("dog", "cat"), output_classes=("cat", "car", "dog"), input=SIZE
    )
    raw, targets = torch.eye(3)[:, :, None, None].expand(3, 3, 2, 2), torch.tensor([1, 0, 0])
    if task == "classification":
        raw = raw[..., 0, 0]
    answers = decoded(raw, card)
    assert torch.allclose(answers.softmax(1)[:, 0], raw.softmax(1)[:, 2])
    truth = targets if task == "classification" else targets[:, None, None].expand(3, 2, 2).to(torch.uint8)
    judged = task_named(task, card.classes).score_batch(answers, truth)
    assert judged.score.tolist() == [1.0, 0.0, 1.0]


def test_names_that_a_list_has_twice_are_told_apart() -> None:
    """COCO's ninety numbers hold ``N/A`` ten times, ImageNet ``crane`` twice."""
    found = class_fields(("N/A", "cat", "N/A"), ("cat",), "detection")
    assert found["output_classes"] == ("N/A (0)", "cat", "N/A (2)")
    with pytest.raises(Refused, match="several classes named crane"):
        class_fields(("crane", "cat", "crane"), ("crane", "cat"), "classification")


def test_characters_are_reordered_and_the_blank_stays_last() -> None:
    card = ArchitectureCard(
        architecture="x", task="ocr", classes=("a", "b"), output_classes=("b", "a"), input=SIZE,
        decoding=Decoding(layout="ctc", blank="first"),
    )  # fmt: skip
    assert decoded(torch.tensor([[[9.0, 1.0, 2.0]]]), card)[0, 0].tolist() == [2.0, 1.0, 9.0]


def test_a_card_can_not_name_outputs_that_are_no_classes() -> None:
    with pytest.raises(ValueError, match="output_classes must have every class"):
        ArchitectureCard(architecture="x", task="ocr", classes=("a", "b"), output_classes=("a", "c"), input=SIZE)
