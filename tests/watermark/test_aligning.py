import numpy as np
import pytest
import torch

from auditsvc.watermark import trace_channels
from auditsvc.watermark.alignment import align
from auditsvc.watermark.detector import arrays, compare
from tests.bench.watermark.attacks import disguised, narrowed, same_function
from tests.bench.watermark.digits import Net
from tests.watermark.conftest import drawn
from tests.watermark.test_tracing import Joined


@pytest.mark.parametrize("seed", range(3))
def test_a_disguise_computes_the_same_and_is_undone_exactly(marked, seed):
    hidden = disguised(marked.weights, marked.wiring, seed)
    assert same_function(Net.holding(marked.weights), Net.holding(hidden), marked.images) < 1e-4
    back = align(arrays(hidden), arrays(marked.original), marked.wiring)
    original = arrays(marked.original)
    for name, array in arrays(marked.weights).items():
        if array.ndim > 1:
            filters = zip(back[name], array, original[name], strict=True)
            cosines = [one.ravel() @ two.ravel() / np.linalg.norm(one) / np.linalg.norm(two)
                       for one, two, old in filters if np.count_nonzero(old) > 8]  # fmt: skip
            assert min(cosines, default=1.0) > 0.99


def test_branches_that_are_joined_and_flattened_are_put_back():
    torch.manual_seed(0)
    model = Joined()
    wiring = trace_channels(model, torch.rand(2, 1, 8, 8))
    original = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    hidden = disguised(original, wiring)
    back = align(arrays(hidden), arrays(original), wiring)
    np.testing.assert_allclose(back["head.weight"], original["head.weight"].numpy(), rtol=1e-4, atol=1e-6)


def test_channels_that_were_cut_out_are_zero_and_the_rest_is_in_its_place(marked):
    small = narrowed(marked.original, marked.wiring, 0.25)
    back = align(arrays(small), arrays(marked.original), marked.wiring)
    for name, array in arrays(marked.original).items():
        if array.ndim > 1:
            assert back[name].shape == array.shape
            np.testing.assert_allclose(back[name][back[name] != 0], array[back[name] != 0], rtol=1e-3)
    assert np.count_nonzero(back["blocks.4.conv1.weight"]) > 0.4 * np.count_nonzero(
        arrays(marked.original)["blocks.4.conv1.weight"]
    )


def test_channels_that_were_added_are_left_out(marked):
    wide = {name: tensor.clone() for name, tensor in marked.original.items()}
    stem = "blocks.0."
    wide[stem + "conv1.weight"] = torch.cat([torch.randn(2, 8, 3, 3), wide[stem + "conv1.weight"]])
    wide[stem + "conv2.weight"] = torch.cat([torch.zeros(8, 2, 3, 3), wide[stem + "conv2.weight"]], 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        wide[f"{stem}bn1.{name}"] = torch.cat([torch.ones(2), wide[f"{stem}bn1.{name}"]])
    back = align(arrays(wide), arrays(marked.original), marked.wiring)
    np.testing.assert_allclose(
        back[stem + "conv2.weight"], marked.original[stem + "conv2.weight"], rtol=1e-4, atol=1e-6
    )


def test_a_stranger_stays_a_stranger(marked):
    stranger = compare(drawn(9).state_dict(), marked.original, marked.wiring)
    relative = compare(disguised(marked.weights, marked.wiring), marked.original, marked.wiring)
    assert stranger.lineage < 0.6 < 0.95 < relative.lineage
