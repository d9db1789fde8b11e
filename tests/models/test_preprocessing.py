"""Preprocessing is part of the model: values worked out by hand, gradients, exports, and old cards unchanged."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.evaluation.inference import compile_model
from auditsvc.models import ArchitectureCard, InputSpec, Model, assemble, model_files, read_card
from auditsvc.models.complexity import macs
from auditsvc.models.preprocessing import PRESETS, preprocessing_of
from auditsvc.records.architecture import Preprocessing
from auditsvc.runtimes.onnx_export import onnx_bytes, session

IMAGES = torch.rand(4, 3, 8, 10, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    """Keeps what reached the network."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images.flatten(1)[:, :2]


def card(
    preprocessing: Any = None, channels: int = 3, size: tuple[int, int] = (8, 10), **more: Any
) -> ArchitectureCard:
    return ArchitectureCard(
        architecture="small_resnet",
        arguments={"classes": 2, "channels": channels, "width": 4},
        task="classification",
        classes=("a", "b"),
        input=InputSpec(channels=channels, height=size[0], width=size[1]),
        preprocessing=preprocessing,
        **more,
    )


def seen(preprocessing: Preprocessing, images: Tensor = IMAGES, **more: Any) -> Tensor:
    module = Given()
    Model(module, card(preprocessing, **more))(images)
    return module.seen


def test_a_card_without_preprocessing_keeps_its_bytes_and_its_meaning():
    plain = card()
    assert "preprocessing" not in json.loads(plain.canonical())
    assert "output_activation" not in json.loads(plain.canonical())
    module = Given()
    Model(module, plain)(IMAGES)
    assert torch.equal(module.seen, IMAGES)


def test_mean_and_std_are_those_of_each_channel():
    made = preprocessing_of("imagenet")
    by_hand = torch.stack(
        [(IMAGES[:, c] - m) / s for c, (m, s) in enumerate(zip(made.mean, made.std, strict=True))], dim=1
    )
    assert torch.allclose(seen(made), by_hand)


def test_channel_order_range_and_mean_as_caffe_has_them():
    by_hand = torch.stack([IMAGES[:, 2] * 255 - 103.939, IMAGES[:, 1] * 255 - 116.779, IMAGES[:, 0] * 255 - 123.68], 1)
    assert torch.allclose(seen(preprocessing_of("caffe")), by_hand, atol=1e-4)


def test_minus_one_to_one_and_inverted():
    assert torch.allclose(seen(preprocessing_of("range: [-1, 1]")), IMAGES * 2 - 1)
    assert torch.allclose(seen(preprocessing_of("range: [1, 0]")), 1 - IMAGES)


def test_colour_becomes_grey_as_pillow_does_it_and_grey_fills_all_channels():
    grey = 0.299 * IMAGES[:, :1] + 0.587 * IMAGES[:, 1:2] + 0.114 * IMAGES[:, 2:]
    assert torch.allclose(seen(preprocessing_of("channels: grey"), channels=1), grey)
    assert torch.equal(seen(Preprocessing(), IMAGES[:, :1]), IMAGES[:, :1].expand(-1, 3, -1, -1))


def test_layout_and_dtype_come_last():
    found = seen(Preprocessing(range=(0, 255), dtype="uint8", layout="nhwc"))
    assert (found.shape, found.dtype) == ((4, 8, 10, 3), torch.uint8)
    assert torch.equal(found, (IMAGES * 255).round().to(torch.uint8).permute(0, 2, 3, 1))


def test_resize_and_crop_end_at_the_networks_size():
    made = Preprocessing.model_validate({"resize": {"size": 12, "mode": "bilinear"}, "crop": (10, 10)})
    found = seen(made, torch.rand(2, 3, 24, 36), size=(10, 10))
    assert found.shape == (2, 3, 10, 10)


def test_resizing_an_edge_keeps_it_in_place():
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8:] = 1
    found = seen(Preprocessing.model_validate({"resize": {"size": (8, 8)}}), image, size=(8, 8))
    assert torch.equal(found[0, 0, 0] > 0.5, torch.arange(8) >= 4)


def test_images_of_the_networks_size_are_not_cropped():
    made = Preprocessing.model_validate({"resize": {"size": 256}, "crop": (8, 10)})
    assert torch.equal(seen(made), IMAGES)


def test_a_size_that_does_not_fit_is_named():
    made = Preprocessing.model_validate({"resize": {"size": (9, 9)}})
    with pytest.raises(InvalidInput, match=r"\(9, 9\); the network takes \(8, 10\)"):
        seen(made, torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"std": [0.0]}, "std must be greater than 0"),
        ({"range": [1, 1]}, "range maps all pixels"),
        ({"dtype": "uint8"}, "uint8 goes with range"),
        ({"means": [0.5]}, "Extra inputs"),
        ({"mean": [0.5, 0.5]}, "2 numbers for 3 channels"),
        ({"channels": "grey"}, "does not go with 3 input channels"),
    ],
)
def test_what_can_not_be_meant_is_refused(fields: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        card(Preprocessing.model_validate(fields))


def test_words_that_are_no_preprocessing_are_refused_with_what_would_work():
    for text in ("imagnet", "mean: [", "mean: x", "[1, 2]", ""):
        try:
            preprocessing_of(text)
        except InvalidInput as error:
            assert "preprocessing" in str(error)
        else:
            assert text == ""  # an empty mapping: images go in as they are


@pytest.mark.parametrize(
    "name", [name for name, fields in PRESETS.items() if len(fields.get("mean", (0,))) != 1 or not fields.get("mean")]
)
def test_gradients_reach_the_image(name: str):
    images = IMAGES.clone().requires_grad_(True)
    Model(Given(), card(preprocessing_of(name)))(images).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def trained(preprocessing: Preprocessing | None) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = card(preprocessing, size=(28, 28))
        from auditsvc.models import build

        return assemble(build(made.architecture, made.arguments).state_dict(), made)


def test_the_model_with_preprocessing_answers_as_the_plain_one_on_prepared_images():
    images = torch.rand(3, 3, 28, 28)
    made = preprocessing_of("imagenet")
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (made.mean, made.std))
    assert torch.allclose(trained(made)(images), trained(None)((images - mean) / std), atol=1e-5)


def test_a_copy_prepares_once_and_another_card_replaces_the_first():
    images = torch.rand(3, 3, 28, 28)
    model = trained(preprocessing_of("imagenet"))
    again = Model(copy.deepcopy(model.module), model.card)
    assert torch.equal(model(images), again(images))
    plain = Model(again.module, card(None, size=(28, 28)))
    assert torch.equal(plain(images), trained(None)(images))


def test_an_exported_file_prepares_images_itself():
    made = Preprocessing.model_validate({**PRESETS["caffe"], "resize": {"size": [28, 28]}})
    model, images = trained(made), torch.rand(4, 3, 40, 32)
    data = onnx_bytes(model, images)
    opened = session(data)
    found = opened.run(model.fitted(images).numpy(), opened.outputs[0].name)
    assert torch.allclose(torch.from_numpy(found), model(images), atol=1e-4)


def test_counting_and_compiling_include_it():
    made = Preprocessing.model_validate({**PRESETS["imagenet"], "layout": "nchw"})
    assert macs(trained(made)) == macs(trained(None))
    images = torch.rand(4, 3, 28, 28)
    quick = compile_model(trained(made), images)
    with torch.inference_mode():
        assert torch.allclose(quick(images), trained(made)(images), atol=1e-4)


def test_the_card_reads_back_and_is_in_the_digest():
    made = card(preprocessing_of("cifar10"))
    assert read_card(model_files({}, made)["architecture.json"]) == made
    assert made.digest != card().digest


def probabilities_of(logits: Tensor, activation: str) -> Tensor:
    class Ends(nn.Module):
        def forward(self, _images: Tensor) -> Tensor:
            return logits.softmax(1) if activation == "softmax" else logits.sigmoid()

    return Model(Ends(), card(output_activation=activation))(IMAGES)


def test_a_softmax_at_the_end_is_inverted_up_to_a_constant():
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(3)) * 5
    found = probabilities_of(logits, "softmax")
    assert torch.allclose(found.softmax(1), logits.softmax(1), atol=1e-6)
    assert torch.allclose(found[:, 0] - found[:, 1], logits[:, 0] - logits[:, 1], atol=1e-3)


def test_one_sigmoid_for_two_classes_becomes_two_logits():
    logits = torch.tensor([[2.0], [-1.0], [0.5], [-3.0]])
    found = probabilities_of(logits, "sigmoid")
    assert torch.allclose(found, torch.cat((torch.zeros(4, 1), logits), 1), atol=1e-4)


def test_saturated_probabilities_stay_finite():
    assert torch.isfinite(probabilities_of(torch.tensor([[1000.0, -1000.0]] * 4), "softmax")).all()
