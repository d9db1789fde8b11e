"""Model folders: what is saved comes back bit for bit, and nothing else comes in."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from auditsvc.errors import Refused
from auditsvc.models import CARD, WEIGHTS, assemble, load_model, model_files, read_card, read_weights
from auditsvc.models.resize_layers import follow_shapes, resize
from tests.models.families import FAMILIES, digits_card, grey_images, model_of


def header_of(data: bytes) -> tuple[dict[str, object], bytes]:
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def with_header(text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


@pytest.fixture(scope="module")
def cnn_bytes() -> bytes:
    model = model_of("small_cnn", width=8)
    return model_files(model.weights(), model.card)[WEIGHTS]


@pytest.mark.parametrize("architecture", FAMILIES.values())
def test_a_saved_model_answers_as_before(architecture: str, tmp_path: Path) -> None:
    model = model_of(architecture)
    for name, data in model_files(model.weights(), model.card).items():
        (tmp_path / name).write_bytes(data)
    again = load_model(tmp_path)
    assert again.card == model.card
    assert torch.equal(again(grey_images()), model(grey_images()))
    assert model_files(again.weights(), again.card) == model_files(model.weights(), model.card)


class Poison:
    """Leaves a trace when a pickle of it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_named_safetensors_is_refused_and_not_opened(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(Poison(tmp_path / "opened"), protocol)
    with pytest.raises(Refused, match=r"pickle.*not opened.*save_file"):
        read_weights(data)
    assert not (tmp_path / "opened").exists()


def test_a_header_whose_length_looks_like_a_pickle_is_read() -> None:
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    data = with_header(text + b" " * (0x0480 - len(text)), struct.pack("<f", 2.0))
    assert data[:2] == b"\x80\x04"
    assert torch.equal(read_weights(data)["w"], torch.tensor([2.0]))


@given(cut=st.integers(min_value=0, max_value=40_000))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_off_anywhere_is_refused(cut: int, cnn_bytes: bytes) -> None:
    with pytest.raises(Refused):
        read_weights(cnn_bytes[: cut % len(cnn_bytes)])


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="header is over"):
        read_weights(struct.pack("<Q", 2**62) + b"{}")


def test_a_name_that_stands_twice_is_refused(cnn_bytes: bytes) -> None:
    entry = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    with pytest.raises(Refused, match="twice"):
        read_weights(with_header(b'{"a":' + entry + b',"a":' + entry + b"}", b"\0" * 4))


@pytest.mark.parametrize("header", [b"[]", b"[[[[", b'"a"', b"\xff\xfe", b"{" * 5000])
def test_a_header_that_is_no_object_is_refused(header: bytes) -> None:
    with pytest.raises(Refused):
        read_weights(with_header(header))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "Object", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
    ],
)
def test_a_header_that_lies_about_its_data_is_refused(entry: dict[str, object]) -> None:
    with pytest.raises(Refused):
        read_weights(with_header(json.dumps({"a": entry}).encode(), b"\0" * 4))


def test_every_wrong_tensor_is_named() -> None:
    model = model_of("small_cnn", width=8)
    weights = model.weights()
    del weights["head.bias"]
    weights["extra"] = torch.zeros(1)
    weights["head.weight"][0, 0] = float("nan")
    weights["features.0.weight"] = torch.zeros(8, 1, 3, 3, dtype=torch.int64)
    with pytest.raises(Refused) as refused:
        assemble(weights, model.card)
    assert refused.value.reasons == (
        "missing tensor: head.bias",
        "tensor that the architecture does not have: extra",
        "features.0.weight holds int64; the architecture has float32",
        "not a finite number in head.weight",
    )


def test_tensors_of_other_rank_are_refused() -> None:
    model = model_of("small_cnn", width=8)
    weights = model.weights() | {"head.weight": torch.zeros(10), "head.bias": torch.zeros(1, 10)}
    with pytest.raises(Refused) as refused:
        assemble(weights, model.card)
    assert refused.value.reasons == (
        "head.weight has 1 dimensions; the architecture has 2",
        "head.bias has 2 dimensions; the architecture has 1",
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_stored_small_and_computed_in_float32(kind: torch.dtype) -> None:
    model = model_of("small_cnn", width=8)
    halved = {name: t.to(kind) if t.is_floating_point() else t for name, t in model.weights().items()}
    again = assemble(read_weights(model_files(halved, model.card)[WEIGHTS]), model.card)
    assert again.module.head.weight.dtype == torch.float32
    assert torch.equal(again.module.head.weight, model.module.head.weight.to(kind).float())
    assert len(model_files(halved, model.card)[WEIGHTS]) < 0.6 * len(model_files(model.weights(), model.card)[WEIGHTS])


def test_tensors_that_share_memory_are_written_one_by_one() -> None:
    shared = torch.arange(4.0)
    data = model_files({"a": shared, "b": shared}, digits_card("small_cnn"))[WEIGHTS]
    assert {name: tensor.tolist() for name, tensor in read_weights(data).items()} == {
        "a": [0, 1, 2, 3],
        "b": [0, 1, 2, 3],
    }


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"kind":"architecture"}', b"[" * 100_000, b"\x80\x04."])
def test_a_card_that_is_no_card_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match=CARD):
        read_card(data)


def test_a_folder_without_its_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"lacks model.safetensors and architecture.json"):
        load_model(tmp_path)


@given(
    inputs=st.integers(1, 6), outputs=st.integers(1, 6), groups=st.integers(1, 3), multiplier=st.integers(1, 3),
    kind=st.sampled_from(["conv", "depthwise", "linear", "transposed"]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_a_layer_takes_the_size_of_any_layer_of_its_kind(
    inputs: int, outputs: int, groups: int, multiplier: int, kind: str
) -> None:
    def make(inputs: int, outputs: int) -> nn.Module:
        if kind == "depthwise":
            return nn.Conv2d(inputs, inputs * multiplier, 3, padding=1, groups=inputs)
        if kind == "linear":
            return nn.Linear(inputs * groups, outputs * groups)
        layer = nn.ConvTranspose2d if kind == "transposed" else nn.Conv2d
        return layer(inputs * groups, outputs * groups, 3, padding=1, groups=groups)

    big, small = make(8, 8), make(inputs + (kind == "depthwise"), outputs)
    resize(big, small.state_dict())
    big.load_state_dict(small.state_dict())
    shape = (2, small.in_features) if kind == "linear" else (2, small.in_channels, 5, 5)
    images = torch.rand(shape)
    assert torch.equal(big(images), small(images))
    assert repr(big) == repr(small)


def test_norms_follow_their_weights() -> None:
    for big, small in ((nn.LayerNorm(8), nn.LayerNorm(5)), (nn.GroupNorm(1, 8), nn.GroupNorm(1, 5)),
                       (nn.BatchNorm2d(8), nn.BatchNorm2d(5))):  # fmt: skip
        resize(big, small.state_dict())
        assert repr(big) == repr(small)
    bare = nn.BatchNorm2d(8, affine=False, track_running_stats=False)
    follow_shapes(bare)
    assert bare.num_features == 8
