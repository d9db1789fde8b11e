"""Models as people save them: what each is, what it says about itself, and the weights that come out."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from auditsvc.errors import Forbidden, InvalidInput, Refused
from auditsvc.importing import imported, recognise_model
from auditsvc.models import InputSpec, Model, assemble
from auditsvc.models.architectures import allow_architecture
from auditsvc.models.state_dicts import fitted_to, unwrapped
from auditsvc.records.architecture import ArchitectureCard, ModelDescription, Preprocessing
from tests.importing.small_factory import make

FACTORY = "tests.importing.small_factory:make"
SAID = ModelDescription(
    architecture=FACTORY, classes=("cat", "dog"), input=InputSpec(channels=3, height=8, width=8), task="classification"
)
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES", FACTORY)
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES_DIR", str(Path(__file__).parents[2]))


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def read(path: Path, said: ModelDescription = SAID) -> tuple[Model, str]:
    found = recognise_model(path, said)
    weights, card, notes = imported(found, found.known)
    return assemble(weights, card), "; ".join(notes)


def masked(network: nn.Module) -> dict[str, Tensor]:
    prune.l1_unstructured(network[0], "weight", amount=46)
    return network.state_dict()


SAVED: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "plain": (lambda net: net.state_dict(), ""),
    "checkpoint": (lambda net: {"epoch": 3, "state_dict": net.state_dict(), "optimizer": {}}, "from 'state_dict'"),
    "data parallel": (lambda net: nn.DataParallel(net).state_dict(), "removed the prefix module."),
    "compiled": (lambda net: {f"_orig_mod.{k}": v for k, v in net.state_dict().items()}, "prefix _orig_mod."),
    "both": (lambda net: {f"module._orig_mod.{k}": v for k, v in net.state_dict().items()}, "_orig_mod. and module."),
    "lightning": (
        lambda net: {"state_dict": {"loss.w": torch.ones(2)} | {f"model.{k}": v for k, v in net.state_dict().items()}},
        "removed the prefix model. and left out loss",
    ),
    "averaged": (
        lambda net: {"model": make().state_dict(), "model_ema": net.state_dict()}, "from 'model_ema', not from model"
    ),
    "averaged model": (
        lambda net: {"n_averaged": torch.tensor(5)} | {f"module.{k}": v for k, v in net.state_dict().items()}, "module."
    ),
    "a key of one's own": (lambda net: {"my_net": net.state_dict(), "optimizer": {"state": {}}}, "from 'my_net'"),
    "masked": (masked, "46 of 108 weights are zero"),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    beside = {"args": Namespace(out=Path("runs")), "best": np.float64(0.9), "epoch": np.int64(3)}
    torch.save(SAVED["averaged"][0](network()) | beside, folder / "averaged.pt")
    torch.save(network(), folder / "whole.pt")
    torch.jit.save(torch.jit.trace(network(), IMAGES), folder / "scripted.pt")
    return folder


@pytest.mark.parametrize("kind", SAVED)
def test_the_same_network_comes_out_of_every_way_of_saving_it(kind: str):
    save, words = SAVED[kind]
    tensors, first = unwrapped(save(network()))
    weights, then = fitted_to(tensors, network().state_dict())
    same = network()
    if kind == "masked":
        prune.l1_unstructured(same[0], "weight", amount=46)
        prune.remove(same[0], "weight")
    assert {name: tensor.tolist() for name, tensor in weights.items()} == {
        name: tensor.tolist() for name, tensor in same.state_dict().items()
    }
    assert words in "; ".join((*first, *then))


def test_a_file_of_torch_save_is_read_in_a_clean_process_and_answers_the_same(files: Path):
    model, notes = read(files / "averaged.pt")
    assert torch.allclose(model(IMAGES), network()(IMAGES), atol=1e-6)
    assert "from 'model_ema', not from model" in notes


@pytest.mark.slow
def test_a_whole_pickled_module_is_refused_with_what_works(files: Path):
    with pytest.raises(Refused, match=r"torch\.save\(model\.state_dict"):
        recognise_model(files / "whole.pt", SAID)


def test_torchscript_is_refused_with_what_works(files: Path):
    with pytest.raises(Refused, match=r"scripted\.pt is a TorchScript archive"):
        recognise_model(files / "scripted.pt", SAID)


def test_safetensors_need_their_architecture_named(tmp_path: Path):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    found = recognise_model(tmp_path / "mine.safetensors")
    assert (found.format, found.outputs["last layer"]) == ("state dict", (0, 2))
    with pytest.raises(InvalidInput, match="architecture: timm:NAME") as caught:
        imported(found, found.known)
    assert any("the classes" in reason for reason in caught.value.reasons)
    model, _ = read(tmp_path / "mine.safetensors")
    assert torch.allclose(model(IMAGES), network()(IMAGES), atol=1e-6)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path):
    save_file({"other.weight": torch.ones(2, 2)}, tmp_path / "mine.safetensors")
    with pytest.raises(Refused, match=r"missing tensor: 0\.weight"):
        read(tmp_path / "mine.safetensors")


class Several(nn.Module):
    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(images.flatten(1)[:, :2])


@pytest.mark.parametrize(
    ("form", "output"),
    [(lambda y: {"out": y, "aux": y + 1}, "out"), (lambda y: (y + 1, y), "1"), (lambda y: {"logits": y}, None)],
)
def test_of_several_outputs_one_is_named(form, output) -> None:
    card = ArchitectureCard(architecture="x", task="classification", classes=("a", "b"), output=output,
                            input=InputSpec(channels=3, height=8, width=8))  # fmt: skip
    assert torch.equal(Model(Several(form), card)(IMAGES), IMAGES.flatten(1)[:, :2])
    if output:
        with pytest.raises(InvalidInput, match="name one with --output"):
            Model(Several(form), card.model_copy(update={"output": None}))(IMAGES)


def test_two_networks_in_one_file_are_never_guessed_at():
    with pytest.raises(Refused, match="several state_dicts: a, b"):
        unwrapped({"a": network().state_dict(), "b": network().state_dict()})
    tensors = {
        f"{part}.{name}": value for part in ("student", "teacher") for name, value in network().state_dict().items()
    }
    with pytest.raises(Refused, match=r"student\., teacher\."):
        fitted_to(tensors, network().state_dict())


def test_eight_bit_floats_are_refused_by_name(tmp_path: Path):
    weights = network().state_dict()
    save_file(weights | {"0.bias": weights["0.bias"].to(torch.float8_e4m3fn)}, tmp_path / "mine.safetensors")
    with pytest.raises(Refused, match=r"0\.bias holds float8_e4m3fn"):
        read(tmp_path / "mine.safetensors")


def test_code_that_the_operator_did_not_list_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    monkeypatch.delenv("AUDITSVC_ARCHITECTURES")
    with pytest.raises(Forbidden, match="AUDITSVC_ARCHITECTURES"):
        read(tmp_path / "mine.safetensors")
    allow_architecture(FACTORY, Path(__file__).parents[2])
    read(tmp_path / "mine.safetensors")


@pytest.mark.parametrize("name", ["tests.importing.small_factory:boom", "tests.importing.small_factory:gone", "gone:x"])
def test_a_factory_that_makes_no_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES", name)
    with pytest.raises(InvalidInput, match="the architecture 'python' does not take"):
        read(tmp_path / "mine.safetensors", SAID.model_copy(update={"architecture": name}))


def test_preprocessing_that_is_said_goes_into_the_card(tmp_path: Path):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    said = ModelDescription(preprocessing=Preprocessing(mean=(0.5,), std=(0.25,))).over(SAID)
    model, _ = read(tmp_path / "mine.safetensors", said)
    assert torch.allclose(model(IMAGES), network()((IMAGES - 0.5) / 0.25), atol=1e-6)


def test_a_softmax_at_the_end_is_recognised_and_inverted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    name = "tests.importing.small_factory:probable"
    monkeypatch.setenv("AUDITSVC_ARCHITECTURES", name)
    said = SAID.model_copy(update={"architecture": name})
    model, notes = read(tmp_path / "mine.safetensors", said)
    assert model.card.output_activation == "softmax"
    assert "softmax at the end is inverted" in notes
    assert torch.allclose(model(IMAGES).log_softmax(1), network()(IMAGES).log_softmax(1), atol=1e-5)
    told = ModelDescription(probabilities=False).over(said)
    assert read(tmp_path / "mine.safetensors", told)[0].card.output_activation is None


def test_logits_are_not_taken_for_probabilities(tmp_path: Path):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    assert read(tmp_path / "mine.safetensors")[0].card.output_activation is None


def test_grey_images_fill_the_channels_of_a_network_for_colour(tmp_path: Path):
    save_file(network().state_dict(), tmp_path / "mine.safetensors")
    said = ModelDescription(input=InputSpec(channels=1, height=8, width=8)).over(SAID)
    model, _ = read(tmp_path / "mine.safetensors", said)
    assert torch.allclose(model(IMAGES[:, :1]), network()(IMAGES[:, :1].expand(-1, 3, -1, -1)), atol=1e-6)


def test_a_folder_with_two_models_names_both(tmp_path: Path):
    for name in ("a", "b"):
        save_file(network().state_dict(), tmp_path / f"{name}.safetensors")
    with pytest.raises(Refused, match=r"a\.safetensors could be meant"):
        recognise_model(tmp_path, SAID)


def test_an_onnx_file_says_its_input_outputs_and_final_operator(tmp_path: Path):
    ends = nn.Sequential(network(), nn.Softmax(1)).eval()
    torch.onnx.export(ends, (IMAGES[:1],), tmp_path / "m.onnx", dynamo=False, input_names=["x"], output_names=["p"])
    found = recognise_model(tmp_path / "m.onnx")
    assert found.known.input == InputSpec(channels=3, height=8, width=8)
    assert found.known.probabilities is True
    assert dict(found.outputs) == {"p": (1, 2)}


@pytest.mark.slow
def test_metadata_of_ultralytics_names_task_and_classes(tmp_path: Path):
    import onnx

    torch.onnx.export(network(), (IMAGES[:1],), tmp_path / "m.onnx", dynamo=False)
    made = onnx.load(tmp_path / "m.onnx")
    onnx.helper.set_model_props(made, {"task": "detect", "names": "{1: 'dog', 0: 'cat'}", "imgsz": "[8, 8]"})
    onnx.save(made, tmp_path / "m.onnx")
    known = recognise_model(tmp_path / "m.onnx").known
    assert (known.task, known.classes) == ("detection", ("cat", "dog"))
    assert known.preprocessing is not None and known.preprocessing.resize is not None
    assert known.preprocessing.resize.size == (8, 8) and known.preprocessing.resize.pad == 114 / 255


@pytest.mark.slow
def test_a_broken_onnx_file_is_refused(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"not a model" * 9)
    with pytest.raises(Refused, match="ONNX"):
        recognise_model(tmp_path / "m.onnx")


PROCESSORS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True,
         "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
        {"resize": {"size": [32, 32], "mode": "bilinear"}, "mean": [0.5] * 3, "std": [0.5] * 3},
    ),
    (
        {"size": {"shortest_edge": 28}, "crop_pct": 0.875, "resample": 3,
         "image_mean": [0.1] * 3, "image_std": [0.2] * 3},
        {"resize": {"size": 32, "mode": "bicubic"}, "crop": [28, 28], "mean": [0.1] * 3, "std": [0.2] * 3},
    ),
    (
        {"do_resize": False, "do_rescale": False, "do_normalize": False},
        {"range": [0, 255]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "meant"), PROCESSORS)
def test_a_hugging_face_folder_brings_its_preprocessing(tmp_path: Path, written: dict[str, Any], meant: dict[str, Any]):
    config = {"architectures": ["ViTForImageClassification"], "model_type": "vit", "image_size": 32,
              "id2label": {"1": "dog", "0": "cat"}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    found = recognise_model(tmp_path)
    assert found.format == "Hugging Face"
    assert found.known.classes == ("cat", "dog")
    assert found.known.preprocessing == Preprocessing.model_validate(meant)


def test_a_hugging_face_network_answers_as_transformers_does(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4,
        num_labels=2,
    )  # fmt: skip
    own = transformers.ViTForImageClassification(config).eval()
    own.save_pretrained(tmp_path)
    model, _ = read(tmp_path, ModelDescription(classes=("cat", "dog")))
    with torch.inference_mode():
        assert torch.allclose(model(IMAGES), own(pixel_values=IMAGES).logits, atol=1e-6)


def test_timm_and_torchvision_bring_their_preprocessing(tmp_path: Path):
    timm = pytest.importorskip("timm")
    save_file(timm.create_model("resnet18", num_classes=2).state_dict(), tmp_path / "mine.safetensors")
    said = ModelDescription(architecture="timm:resnet18", classes=("cat", "dog"))
    model, _ = read(tmp_path / "mine.safetensors", said)
    made = model.card.preprocessing
    assert made is not None
    assert (made.mean, made.crop, model.card.input.height) == ((0.485, 0.456, 0.406), (224, 224), 224)
    assert model(torch.rand(1, 3, 300, 260)).shape == (1, 2)


def test_torchvision_brings_its_preprocessing():
    pytest.importorskip("torchvision")
    from auditsvc.models.architectures import published

    made, size, classes = published("torchvision:resnet18")
    assert (len(classes), classes[0]) == (1000, "tench")
    assert made is not None
    assert (made.crop, made.mean, size) == ((224, 224), (0.485, 0.456, 0.406), (3, 224, 224))
    with pytest.raises(InvalidInput, match="no model named"):
        published("torchvision:resnet17")
