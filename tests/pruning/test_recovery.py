"""Recovery never makes a model worse, says what it did, and trains networks whose normalisation was folded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from auditsvc import pruning
from auditsvc.datasets import Slices
from auditsvc.errors import InvalidInput
from auditsvc.models import Model, assemble, build
from auditsvc.pruning import recovery
from auditsvc.pruning.plan import Distillation, Training
from auditsvc.records import Recipe
from tests.fakes.progress import QuietProgress
from tests.models.families import digits_card, model_of
from tests.pruning.toy import Toy, taught

TOY = Toy(160)


def conv(source: str, name: str, inputs: int, outputs: int) -> dict[str, object]:
    at = {"in": inputs, "out": outputs, "groups": 1, "kernel": [3, 3], "stride": [2, 2], "dilation": [1, 1],
          "pads": [1, 1, 1, 1], "bias": True}  # fmt: skip
    return {"op": "conv", "in": [source], "out": name, "at": at}


def folded() -> Model:
    """A network as it comes from ONNX: convolutions with biases and no normalisation."""
    nodes = [
        conv("image", "a", 1, 8), {"op": "Relu", "in": ["a"], "out": "b", "at": {}},
        conv("b", "c", 8, 16), {"op": "Relu", "in": ["c"], "out": "d", "at": {}},
        {"op": "Flatten", "in": ["d"], "out": "e", "at": {"axis": 1}},
        {"op": "linear", "in": ["e"], "out": "answer", "at": {"in": 16 * 49, "out": 10, "bias": True}},
    ]  # fmt: skip
    card = digits_card("onnx_graph", nodes=nodes, constants={}, image="image", answer="answer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Model(build(card.architecture, card.arguments), card)


def test_a_training_that_makes_nothing_better_is_refused_with_its_figures() -> None:
    harmful = {"fine-tune": {"epochs": 1, "rate": 1.0, "decay": 0.1, "batch": 32}}
    recipe = Recipe(method="none", targets={}, data=TOY.ref.digest, recovery=harmful)
    with pytest.raises(InvalidInput, match=r"loss on 16 held-back images was 0\.\d+ before and 0\.\d+ after.*now 1\)"):
        pruning.prune(taught(TOY, epochs=6), recipe, TOY)


def test_the_epoch_with_the_smallest_loss_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are made up: 4 before, then 3, 1 and 2; what comes back is what the second epoch alone gives."""
    parent = model_of("small_cnn", width=8)
    losses = iter((4.0, 3.0, 1.0, 2.0, 4.0, 3.0, 1.0))
    monkeypatch.setattr(recovery, "_loss_on", lambda *_: next(losses))
    spec = Training(epochs=3, batch=32)

    def run(last: int) -> recovery.Trained:
        return recovery.trained(parent, parent, spec, TOY, masks={}, seed=1, part=(0, last), tick=lambda _=1: None)

    whole, first_two = run(3), run(2)
    assert (whole.before, whole.best, whole.images) == (4.0, 1.0, 16)
    assert all(torch.equal(whole.model.weights()[name], one) for name, one in first_two.model.weights().items())


def test_the_figures_of_a_training_are_said() -> None:
    progress = QuietProgress()
    spec = {"distillation": {"batch": 32, "epochs": 6, "share": 1.0}}
    targets = {"macs": 3, "round_to": 1}
    recipe = Recipe(method="structured-random", targets=targets, data=TOY.ref.digest, recovery=spec)
    pruning.prune(taught(TOY, epochs=6), recipe, TOY, progress=progress)
    assert [line.split(":")[0] for line in progress.said] == ["distillation, epochs 1 to 6"]
    assert "on 16 held-back images" in progress.said[0]


def test_batch_norm_for_a_network_without_any_is_refused() -> None:
    recipe = Recipe(
        method="structured-l1", targets={"macs": 1.3, "round_to": 1}, data=TOY.ref.digest, recovery={"batch-norm": {}}
    )
    with pytest.raises(InvalidInput, match="onnx_graph has no batch normalisation"):
        pruning.prune(folded(), recipe, TOY)


def test_statistics_that_are_no_better_are_kept_and_a_recipe_that_changes_nothing_is_refused() -> None:
    recipe = Recipe(method="none", targets={}, data=TOY.ref.digest, recovery={"batch-norm": {"images": 64}})
    with pytest.raises(
        InvalidInput, match="changed nothing: the parent's normalisation statistics are the better ones"
    ):
        pruning.prune(model_of("small_cnn", width=8), recipe, TOY)


def test_normalisation_is_made_again_for_training_and_changes_no_answer() -> None:
    model = folded()
    before, weights = model(TOY.images), copy.deepcopy(model.weights())
    with recovery._normalised(model, TOY, np.arange(100)):
        assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.module.modules()) == 2
        torch.testing.assert_close(model(TOY.images), before, rtol=1e-4, atol=1e-5)
    assert {name: tensor.shape for name, tensor in model.weights().items()} == {
        name: tensor.shape for name, tensor in weights.items()
    }
    torch.testing.assert_close(model(TOY.images), before, rtol=1e-4, atol=1e-5)


def test_networks_with_normalisation_are_trained_as_they_are() -> None:
    model = model_of("small_cnn", width=8)
    names = list(model.weights())
    with recovery._normalised(model, TOY, np.arange(100)):
        assert list(model.weights()) == names


def test_a_folded_network_is_recovered_and_its_zeros_stay_zero() -> None:
    """At a rate that the bare network does not survive."""
    parent = taught(TOY, folded(), epochs=8, rate=0.1)
    spec = {"epochs": 4, "batch": 32, "rate": 0.2}
    recipe = Recipe(
        method="magnitude-per-layer", targets={"sparsity": 0.9}, data=TOY.ref.digest, recovery={"distillation": spec}
    )
    pruned = pruning.prune(parent, recipe.model_copy(update={"recovery": {}}), TOY)
    recovered = pruning.prune(parent, recipe, TOY)
    wanted = parent(TOY.images).softmax(1)
    plain, after = (
        float((assemble(weights, parent.card)(TOY.images).softmax(1) - wanted).abs().mean())
        for weights in (pruned, recovered)
    )
    assert after < 0.7 * plain
    assert torch.equal(recovered["layers.2.weight"] == 0, pruned["layers.2.weight"] == 0)


def test_whole_clusters_are_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Toy(160)
    data.slices = Slices(160, (), np.repeat(np.arange(40), 4))
    judged, learned = recovery._held_back(data)
    assert (len(judged), len(learned)) == (16, 144)
    assert not set(judged // 4) & set(learned // 4)
    data.slices = Slices(160, (), np.repeat([0, 1], [150, 10]))
    judged, learned = recovery._held_back(data)
    assert min(len(judged), len(learned)) == 10


def test_gradients_are_clipped_and_the_rate_rises_first(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def watched(parameters: list[torch.nn.Parameter], longest: float) -> torch.Tensor:
        found = clip(parameters, longest)
        norms.append(float(torch.stack([one.grad.norm() for one in parameters if one.grad is not None]).norm()))
        return found

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched)
    monkeypatch.setattr(recovery, "LONGEST", 0.01)
    parent = model_of("small_cnn", width=8)
    recovery.trained(
        parent, parent, Distillation(batch=32, share=1.0, temperature=1.0, shift=2), TOY, masks={}, seed=0, part=(0, 1),
        tick=lambda _=1: None,
    )  # fmt: skip
    assert len(norms) == 5 and max(norms) <= 0.01 * 1.001
    rates = [recovery._schedule(share) for share in np.linspace(0, 1, 101)]
    assert rates[0] < 0.02 and rates.index(max(rates)) == 10 and rates[-1] < 1e-9
