"""A parent that sees the images in another form than it was trained to stops the audit, and only such a parent."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidInput
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.models.preprocessing import preprocessing_of
from auditsvc.records.architecture import Preprocessing
from auditsvc.services.parent_check import check_model
from auditsvc.tasks import task_named
from auditsvc.tasks.classification import Classification
from tests.fakes.models import CLASSES, ArrayDataset, NeverWrong, SeesMeanBrightness, array_dataset, as_model
from tests.roads import small

TASK = Classification(CLASSES)
CHANCE = np.random.default_rng(0)


def brightness_dataset(images: int = 200, bright: float = 0.5) -> ArrayDataset:
    """Dark images around 0.25, bright ones around 0.75."""
    targets = (np.arange(images) < bright * images).astype(np.int64)
    levels = torch.from_numpy(0.25 + 0.5 * targets + CHANCE.uniform(-0.1, 0.1, images)).float()
    return array_dataset(levels[:, None, None, None].expand(-1, 3, 8, 8).clone(), targets)


DATA = brightness_dataset()


class RedOverBlue(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        over = 9 * (images[:, 0] - images[:, 2]).mean(dim=(1, 2))
        return torch.stack((-over, over), dim=1)


class Wrapped(nn.Module):
    """The network with something done to its input or output."""

    def __init__(self, before: Any = None, after: Any = None, inner: nn.Module | None = None) -> None:
        super().__init__()
        self.before, self.after, self.inner = before, after, inner or SeesMeanBrightness()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.inner(self.before(images) if self.before else images)
        found: Tensor = self.after(logits) if self.after else logits
        return found


def check(module: nn.Module, data: ArrayDataset = DATA, stated: Preprocessing | None = None, **more: Any) -> None:
    model = as_model(module, tuple(data.images.shape[1:]), data.classes)
    if stated is not None:
        model = Model(model.module, model.card.model_copy(update={"preprocessing": stated}))
    check_model("the parent", model, Classification(data.classes), data, 7, **more)


def stopped(*args: Any, **more: Any) -> str:
    with pytest.raises(InvalidInput, match="Nothing was judged") as caught:
        check(*args, **more)
    assert caught.value.exit_code == 2
    return str(caught.value)


def imagenet_undone(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return images * std + mean


TRAINED_ON = {
    "preprocessing 'imagenet'": imagenet_undone,
    "preprocessing '0-255'": lambda images: images / 255,
    "preprocessing 'minus-one-to-one'": lambda images: images / 2 + 0.5,
    "inverted brightness": lambda images: 1 - images,
    "these images' own mean": lambda images: images * 0.26 + 0.5,
}


@pytest.mark.parametrize("form", TRAINED_ON)
def test_a_network_that_was_trained_on_another_form_is_stopped_with_that_form_tried(form: str):
    words = stopped(Wrapped(before=TRAINED_ON[form]))
    lines = [line for line in words.splitlines() if form in line]
    assert len(lines) == 1
    assert "it would be 100.0 % (9" in lines[0]  # with its interval
    assert "200 images" in lines[0]


def test_a_form_that_the_card_states_wrongly_is_found_as_well():
    assert "images as they are" in stopped(SeesMeanBrightness(), stated=preprocessing_of("0-255"))
    assert "RGB channel order" in stopped(RedOverBlue(), coloured(), stated=preprocessing_of("channels: bgr"))


def coloured() -> ArrayDataset:
    targets = np.arange(120) % 2
    images = torch.rand(120, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.4
    images[:, 0] += 0.3 * torch.from_numpy(targets)[:, None, None]
    images[:, 2] += 0.3 * torch.from_numpy(1 - targets)[:, None, None]
    return array_dataset(images, targets)


def test_swapped_channels_are_found():
    assert "with BGR channel order it would be 100.0 %" in stopped(
        Wrapped(lambda images: images.flip(1), inner=RedOverBlue()), coloured()
    )
    check(RedOverBlue(), coloured())


def test_swapped_classes_are_found():
    words = stopped(Wrapped(after=lambda logits: logits.flip(1)))
    assert "with the outputs in the order bright, dark it would be 100.0 %" in words


def test_a_network_on_the_right_form_goes_on():
    check(SeesMeanBrightness())


def test_a_poor_network_that_no_form_improves_goes_on():
    wrong = CHANCE.random(200) < 0.25
    noisy = dataclasses.replace(DATA, targets=np.where(wrong, 1 - DATA.targets, DATA.targets))
    check(SeesMeanBrightness(), noisy)


def test_guessing_is_stopped_and_says_what_guessing_would_give():
    words = stopped(Wrapped(after=lambda logits: torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))))
    assert "not distinguishable from guessing" in words


def test_the_same_answer_to_everything_is_guessing_however_many_images_it_fits():
    words = stopped(NeverWrong(), brightness_dataset(240, bright=0.9))
    assert "scores 90.0 %" in words
    assert "guessing, 90.0 %" in words


def test_one_class_alone_can_not_tell_guessing():
    check(NeverWrong(), brightness_dataset(100, bright=1.0))


def test_too_few_images_test_nothing():
    check(Wrapped(after=lambda logits: logits.flip(1)), brightness_dataset(20))


def test_images_of_one_cluster_count_once():
    data = brightness_dataset(200)
    clusters = np.repeat(np.arange(20), 10)
    few = dataclasses.replace(data, slices=dataclasses.replace(data.slices, clusters=clusters))
    check(Wrapped(after=lambda logits: logits.flip(1)), few)


def test_a_stated_accuracy_that_is_not_met_stops_with_everything_tried():
    words = stopped(Wrapped(before=imagenet_undone), expected=0.9)
    assert "its owner states 90.0 %" in words
    assert "imagenet" in words
    assert "its owner states 60.0 %" in stopped(SeesMeanBrightness(), expected=0.6)


def test_a_stated_accuracy_that_is_met_overrules_a_better_form():
    check(Wrapped(before=imagenet_undone), expected=0.67)


def test_probabilities_are_named_and_declared_ones_go_on():
    ends = Wrapped(after=lambda logits: logits.softmax(1))
    with pytest.raises(InvalidInput, match="outputs are probabilities"):
        check(ends)
    model = as_model(ends, (3, 8, 8))
    declared = Model(ends, model.card.model_copy(update={"output_activation": "softmax"}))
    check_model("the parent", declared, TASK, DATA, 7)


def test_a_candidate_is_tried_in_its_parents_form_only():
    lost = {"the parent's preprocessing": preprocessing_of("imagenet")}
    assert "the parent's preprocessing it would be 100.0 %" in stopped(Wrapped(before=imagenet_undone), forms=lost)
    check(Wrapped(before=imagenet_undone), forms={})


def test_the_model_is_left_as_it_was():
    model = as_model(SeesMeanBrightness(), (3, 8, 8))
    before = model(DATA.images)
    check_model("the parent", model, TASK, DATA, 7)
    assert torch.equal(model(DATA.images), before)


def test_classes_of_a_detector_and_a_segmenter_in_another_order_are_found(tmp_path: Path) -> None:
    """Nothing else is wrong: boxes and outlines are where they should be."""
    small.coco(tmp_path / "boxes", 60, 3)
    size = InputSpec(channels=3, height=32, width=32)
    names = ("red", "blue")
    detector = Model(small.CellDetector(), ArchitectureCard(
        architecture="x", task="detection", classes=("blue", "red"), output_classes=names, input=size))  # fmt: skip
    data = DatasetReaders().open(tmp_path / "boxes")
    with pytest.raises(InvalidInput, match=r"the outputs in the order blue, red it would be 100\.0 %"):
        check_model("the parent", detector, task_named("detection", data.classes), data, 7)
    small.masks(tmp_path / "masked", 60, 3)
    data = DatasetReaders().open(tmp_path / "masked")
    segmenter = Model(small.PixelSegmenter(), ArchitectureCard(
        architecture="x", task="segmentation", classes=data.classes, output_classes=data.classes[::-1], input=size,
    ))  # fmt: skip
    with pytest.raises(InvalidInput, match="the outputs in the order background, foreground"):
        check_model("the parent", segmenter, task_named("segmentation", data.classes), data, 7)
