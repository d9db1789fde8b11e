"""Architectures by name: ours, those of packages, and no way to bring code or fetch a file."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from torch import nn

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.models import architecture_names, build


class FakeTimm(SimpleNamespace):
    """As much of timm as is asked for; remembers what it was told to make."""

    asked: tuple[str, dict[str, object]] = ("", {})

    @staticmethod
    def is_model(name: str) -> bool:
        return name == "resnet18"

    def create_model(self, name: str, **arguments: object) -> nn.Module:
        self.asked = (name, arguments)
        return nn.Linear(2, 3)


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> FakeTimm:
    fake = FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_a_package_makes_the_class_and_never_the_weights(timm: FakeTimm) -> None:
    module = build("timm", {"name": "resnet18", "num_classes": 10})
    assert not module.training
    assert timm.asked == ("resnet18", {"pretrained": False, "num_classes": 10})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "hf-hub:somebody/model"}, "not a plain model name"),
        ({"name": "../resnet18"}, "not a plain model name"),
        ({"name": "resnet99"}, "no model named"),
        ({"name": "resnet18", "pretrained": True}, "pretrained can't be set"),
        ({"name": "resnet18", "checkpoint_path": "/tmp/x.pth"}, "checkpoint_path can't be set"),
        ({"name": "resnet18", "act_layer": {"a": 1}}, "only numbers"),
        ({}, "does not take"),
    ],
)
def test_a_card_cannot_make_a_package_fetch_or_read_a_file(
    arguments: dict[str, object], words: str, timm: FakeTimm
) -> None:
    with pytest.raises(InvalidInput, match=words):
        build("timm", arguments)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unavailable, match=rf"auditsvc\[{package}\]"):
        build(package, {"name": "resnet18"})


def test_an_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="small_cnn"):
        build("big_cnn", {})
    assert {"small_resnet", "onnx_graph", "timm", "torchvision"} <= set(architecture_names())
