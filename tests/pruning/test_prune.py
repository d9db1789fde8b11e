"""One recipe, one candidate: repeatable, exact about its numbers, and closed where it can't know."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from auditsvc import pruning
from auditsvc.errors import InvalidInput
from auditsvc.models import WEIGHTS, Model, assemble, model_files
from auditsvc.models.fake_quantization import Int8Layer, is_int8
from auditsvc.pruning.methods import prunable
from auditsvc.records import Recipe
from tests.fakes.progress import QuietProgress
from tests.models.families import grey_images, model_of
from tests.pruning.toy import Toy, taught

TOY = Toy(128)
DISTIL = {"distillation": {"epochs": 2, "batch": 32, "rate": 0.05}}


def weights_of(recipe: Recipe, parent: Model | None = None) -> dict[str, Tensor]:
    return pruning.prune(parent or model_of("small_cnn", width=8), recipe, TOY)


def bytes_of(recipe: Recipe) -> bytes:
    parent = model_of("small_cnn", width=8)
    return model_files(weights_of(recipe, parent), parent.card)[WEIGHTS]


@pytest.mark.parametrize(
    ("method", "sparsity", "digest"),
    [
        ("magnitude-global", 0.3, "f57fffde08c2332f"),
        ("magnitude-global", 0.95, "5a9d6ea51bed2a42"),
        ("magnitude-per-layer", 0.7, "ea44259d1691a2ee"),
    ],
)
def test_magnitude_pruning_gives_the_bytes_that_it_always_gave(method: str, sparsity: float, digest: str) -> None:
    from auditsvc.models import build
    from tests.models.families import digits_card

    torch.manual_seed(0)
    parent = Model(build("small_cnn", {}), digits_card("small_cnn"))
    data = model_files(pruning.prune(parent, Recipe(method=method, targets={"sparsity": sparsity})), parent.card)
    assert hashlib.sha256(data[WEIGHTS]).hexdigest().startswith(digest)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(method="structured-random", targets={"macs": 2, "round_to": 1}, seed=7),
        Recipe(method="structured-taylor", targets={"parameters": 2, "round_to": 1, "steps": 2}, data=TOY.ref.digest,
               recovery=DISTIL),
        Recipe(method="magnitude-global", targets={"sparsity": 0.8, "steps": 2}, data=TOY.ref.digest,
               recovery={"batch-norm": {"images": 64}, "fine-tune": {"epochs": 2, "shift": 2, "flip": True}}),
        Recipe(method="none", targets={}, number_format="int8", data=TOY.ref.digest),
    ],
    ids=["random", "taylor", "schedule", "int8"],
)  # fmt: skip
def test_the_same_recipe_gives_the_same_bytes_and_leaves_the_parent_alone(recipe: Recipe) -> None:
    parent = model_of("small_cnn", width=8)
    before = model_files(parent.weights(), parent.card)[WEIGHTS]
    first = model_files(weights_of(recipe, parent), parent.card)[WEIGHTS]
    assert model_files(parent.weights(), parent.card)[WEIGHTS] == before
    torch.rand(3)
    assert bytes_of(recipe) == first
    assert not any(parameter.requires_grad for parameter in parent.module.parameters())


def test_another_seed_is_another_candidate() -> None:
    one, two = (Recipe(method="structured-random", targets={"macs": 2, "round_to": 1}, seed=seed) for seed in (1, 2))
    assert bytes_of(one) != bytes_of(two)


@given(sparsity=st.floats(0.01, 0.99), everywhere=st.booleans())
@settings(max_examples=15, deadline=None)
def test_exactly_the_asked_share_is_zero(sparsity: float, everywhere: bool) -> None:
    method = "magnitude-global" if everywhere else "magnitude-per-layer"
    parent = model_of("small_cnn", width=8)
    weights = weights_of(Recipe(method=method, targets={"sparsity": sparsity}), parent)
    layers = [weights[name] for name in prunable(parent.module)]
    groups = [layers] if everywhere else [[layer] for layer in layers]
    for group in groups:
        zeros, size = sum(int((layer == 0).sum()) for layer in group), sum(layer.numel() for layer in group)
        assert zeros == round(sparsity * size)


@pytest.mark.parametrize(("keep", "of"), [(2, 4), (1, 4), (1, 2), (5, 8)])
def test_n_of_m_keeps_the_largest_of_every_run(keep: int, of: int) -> None:
    parent = model_of("small_cnn", width=8)
    before, after = parent.weights(), weights_of(Recipe(method="n-m", targets={"keep": keep, "of": of}), parent)
    for name in prunable(parent.module):
        old, new = (torch.unflatten(w[name].movedim(1, -1).contiguous(), -1, (-1, of)) for w in (before, after))
        assert bool(((new != 0).sum(-1) == keep).all())
        dropped = (old * (new == 0)).abs().amax(-1)
        kept = torch.where(new == 0, torch.inf, new.abs()).amin(-1)
        assert bool((dropped <= kept).all())


def test_zeros_stay_zero_through_training_and_training_changes_the_rest() -> None:
    parent = taught(TOY)
    plain = Recipe(method="magnitude-global", targets={"sparsity": 0.9})
    trained = plain.model_copy(update={"recovery": DISTIL, "data": TOY.ref.digest})
    before, after = weights_of(plain, parent), weights_of(trained, parent)
    for name in prunable(parent.module):
        assert torch.equal(before[name] == 0, after[name] == 0)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_recovery_brings_the_answers_back_to_the_parents() -> None:
    """The parent is trained first, so that its answers are worth having."""
    parent = taught(TOY, epochs=6)
    cut = Recipe(method="structured-random", targets={"macs": 6, "round_to": 1}, data=TOY.ref.digest)
    recoveries = ({}, {"batch-norm": {"images": 128}}, {"distillation": {"epochs": 12, "batch": 32, "share": 1.0}})
    wanted = parent(TOY.images).softmax(1)
    plain, renormed, distilled = (
        float((assemble(pruning.prune(parent, recipe, TOY), parent.card)(TOY.images).softmax(1) - wanted).abs().mean())
        for recipe in (cut.model_copy(update={"recovery": recovery}) for recovery in recoveries)
    )
    assert renormed < 0.9 * plain
    assert distilled < 0.5 * plain


def test_progress_is_told_for_training() -> None:
    progress = QuietProgress()
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.9}, data=TOY.ref.digest, recovery=DISTIL)
    pruning.prune(taught(TOY), recipe, TOY, progress=progress)
    assert progress.steps == [("distillation, epochs 1 to 2", 8)]
    assert len(progress.ticks) == 8


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(method="magic", targets={}), "no pruning method named 'magic'"),
        (Recipe(method="magnitude-global", targets={"sparsity": 1}), "sparsity"),
        (Recipe(method="magnitude-global", targets={"sparsity": 0.5, "ratio": 1}), "ratio"),
        (Recipe(method="structured-l1", targets={}), "exactly one of the targets"),
        (Recipe(method="structured-l1", targets={"macs": 2, "parameters": 2}), "exactly one of the targets"),
        (Recipe(method="structured-l1", targets={"macs": 0.5}), "greater than 1"),
        (Recipe(method="structured-l1", targets={"macs": 900}), "out of reach"),
        (Recipe(method="structured-l1", targets={"macs": 1.2, "round_to": 8}), "nearest is off by"),
        (Recipe(method="structured-l1", targets={"latency": 2}), "measured first"),
        (Recipe(method="structured-taylor", targets={"macs": 2}), "needs data"),
        (Recipe(method="n-m", targets={"keep": 4, "of": 4}), "must be smaller"),
        (Recipe(method="n-m", targets={"keep": 1, "of": 7}), "must divide"),
        (Recipe(method="none", targets={}), "changes nothing"),
        (Recipe(method="none", targets={}, number_format="int8"), "needs data"),
        (Recipe(method="none", targets={}, recovery={"prayer": {}}), "prayer"),
        (Recipe(method="none", targets={}, recovery={"fine-tune": {}, "distillation": {}}), "choose fine-tune or"),
        (Recipe(method="none", targets={}, recovery={"fine-tune": {"data": "sha256:x"}}), "fine-tune.data"),
        (Recipe(method="none", targets={}, recovery={"fine-tune": {}}, data="sha256:" + 64 * "0"), "the data set sha"),
        (Recipe(method="none", targets={}, recovery={"fine-tune": {"batch": 100}}, data=TOY.ref.digest), "two batches"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_followed_is_refused_with_the_reason(recipe: Recipe, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        weights_of(recipe, model_of("small_cnn", width=8, seed=1))


def test_a_training_that_diverges_is_not_a_candidate() -> None:
    parent = model_of("small_cnn", width=8)
    with torch.no_grad():
        parent.module.head.weight.mul_(1e38)
    with pytest.raises(InvalidInput, match="diverged in epoch 1; lower its rate"):
        weights_of(Recipe(method="none", targets={}, recovery={"fine-tune": {}}, data=TOY.ref.digest), parent)


def test_int8_weights_are_integers_on_a_grid_of_each_channel() -> None:
    parent = model_of("small_cnn", width=8)
    weights = weights_of(Recipe(method="none", targets={}, number_format="int8", data=TOY.ref.digest), parent)
    model = assemble(weights, parent.card)
    assert is_int8(model.module)
    assert all(torch.equal(model.weights()[name], tensor) for name, tensor in weights.items())
    old, new = parent.weights()["features.3.weight"], weights["features.3.weight"]
    scale = weights["features.3.weight_scale"].view(-1, 1, 1, 1)
    assert new.dtype == torch.int8
    assert bool(((new * scale - old).abs() <= scale / 2 + 1e-7).all())
    assert int(new.abs().amax()) == 64
    assert 255 * 2 * 64 <= 2**15 - 1  # two neighbouring products of any inputs fit into 16 bits
    agreeing = (model(TOY.images).argmax(1) == parent(TOY.images).argmax(1)).float().mean()
    assert float(agreeing) > 0.9


def test_gradients_pass_through_int8_so_that_it_can_be_attacked() -> None:
    parent = model_of("small_cnn", width=8)
    weights = weights_of(Recipe(method="none", targets={}, number_format="int8", data=TOY.ref.digest), parent)
    images = grey_images().requires_grad_(True)
    assemble(weights, parent.card)(images).logsumexp(1).sum().backward()
    assert float(images.grad.abs().sum()) > 0


def test_int8_layers_that_do_not_fit_are_refused() -> None:
    from auditsvc.errors import Refused

    parent = model_of("small_cnn", width=8)
    for path in ("features.1", "nowhere"):
        with pytest.raises(Refused, match=path):
            assemble(parent.weights() | {f"{path}.weight_scale": torch.ones(8)}, parent.card)
    with pytest.raises(Refused, match="pads with zeros"):
        Int8Layer(nn.Conv2d(1, 1, 3, padding_mode="reflect"))


def test_float16_refuses_numbers_that_it_cannot_hold() -> None:
    parent = model_of("small_cnn", width=8)
    with torch.no_grad():
        parent.module.head.bias[0] = 1e6
    with pytest.raises(InvalidInput, match=r"head.bias; bfloat16 can"):
        weights_of(Recipe(method="none", targets={}, number_format="float16"), parent)
    weights_of(Recipe(method="none", targets={}, number_format="bfloat16"), parent)
