"""Attacks on models whose breaking budget is known by thought."""

from __future__ import annotations

import pytest
import torch

from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.attacks import (
    Apgd,
    AutoAttack,
    Ball,
    Budgets,
    Ensemble,
    Fgsm,
    MinimalNorm,
    Patch,
    Pgd,
    Spatial,
    Square,
    TargetedApgd,
    Transfer,
    masking_symptoms,
)
from auditsvc.tasks.classification import Classification
from tests.fakes.models import Linear, MaskedGradient, NeverWrong, SeesMeanBrightness

TASK = Classification(("dark", "bright"))


@pytest.fixture(scope="module")
def plane():
    """A plane through images of the middle of the scale, and how far each image lies from it in each norm."""
    chance = torch.Generator().manual_seed(3)
    weights = torch.randn(3, 8, 8, generator=chance)
    images = 0.5 + 0.1 * (torch.rand(40, 3, 8, 8, generator=chance) - 0.5)
    over = (images * weights).sum(dim=(1, 2, 3)) - 0.5 * weights.sum()
    far = {"Linf": over.abs() / weights.abs().sum(), "L2": over.abs() / weights.norm()}
    return Linear(weights, float(-0.5 * weights.sum())), images, (over > 0).long(), far


def seeds(count):
    return image_seeds(1, "attack", torch.arange(count))


def standing(model, attacked, targets):
    with torch.no_grad():
        return TASK.scores(model(attacked), targets) > 0


ATTACKS = {
    "fgsm": lambda ball: Fgsm(TASK, ball),
    "pgd": lambda ball: Pgd(TASK, ball, 20),
    "apgd": lambda ball: Apgd(TASK, ball, 20),
    "targeted apgd": lambda ball: TargetedApgd(TASK, ball, 20),
    "autoattack": lambda ball: AutoAttack(TASK, ball, 20, queries=20),
    "ensemble": lambda ball: Ensemble(TASK, ball, 20, queries=20),
}


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_plane_falls_exactly_where_its_distance_says(plane, name, norm, share):
    model, images, targets, far = plane
    radius = share * float(far[norm].median())
    near = (far[norm] - radius).abs() < 0.02 * radius
    attacked = ATTACKS[name](Ball(norm, radius))(model, images, targets, seeds(40))
    assert torch.equal(standing(model, attacked, targets)[~near], (far[norm] > radius)[~near])
    change = (attacked - images).flatten(1)
    size = change.abs().amax(1) if norm == "Linf" else change.norm(dim=1)
    assert float(size.max()) <= radius * (1 + 1e-4)
    assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_minimal_change_of_a_plane_is_found(plane, norm):
    model, images, targets, far = plane
    attacked = MinimalNorm(TASK, norm, 200)(model, images, targets, seeds(40))
    change = (attacked - images).flatten(1)
    size = change.abs().amax(1) if norm == "Linf" else change.norm(dim=1)
    clear = far[norm] > 1e-3
    assert not standing(model, attacked, targets)[clear].any()
    assert torch.all(size[clear] >= far[norm][clear] * (1 - 1e-4))
    assert float((size[clear] / far[norm][clear]).median()) < 1.05


def test_square_breaks_without_a_gradient_what_gradients_cannot():
    images = torch.full((6, 3, 8, 8), 0.6)
    targets, model = torch.ones(6, dtype=torch.long), MaskedGradient(8)
    blind = Square(TASK, Ball("Linf", 0.3), 200)(model, images, targets, seeds(6))
    assert not standing(model, blind, targets).any()


def test_square_in_l2_stays_in_its_ball(plane):
    model, images, targets, far = plane
    radius = float(far["L2"].median())
    attacked = Square(TASK, Ball("L2", radius), 300)(model, images, targets, seeds(40))
    assert float((attacked - images).flatten(1).norm(dim=1).max()) <= radius * (1 + 1e-4)
    assert standing(model, attacked, targets).sum() < 36


@pytest.mark.parametrize("name", [*ATTACKS, "square", "patch", "spatial"])
def test_an_image_is_attacked_alike_in_any_batch(plane, name):
    model, images, targets, far = plane
    ball = Ball("Linf", 0.7 * float(far["Linf"].median()))
    more = {"square": Square(TASK, ball, 100), "patch": Patch(TASK, 0.2, 10), "spatial": Spatial(TASK, tries=4)}
    attack = more[name] if name in more else ATTACKS[name](ball)
    whole = attack(model, images, targets, seeds(40))
    backwards = torch.arange(39, -1, -1)
    parts = [attack(model, images[part], targets[part], seeds(40)[part]) for part in backwards.split(7)]
    assert torch.allclose(torch.cat(parts).flip(0), whole, atol=1e-6)


def test_what_falls_to_a_small_budget_stays_fallen(plane):
    model, images, targets, far = plane
    radii = tuple(float(far["Linf"].quantile(q)) for q in (0.25, 0.5, 0.75))
    for method in ("fgsm", "pgd", "apgd", "minimal", "autoattack"):
        versions = Budgets(TASK, "Linf", radii, method, 30, queries=10)(model, images, targets, seeds(40))
        left = [int(standing(model, version, targets).sum()) for version in versions]
        assert left == pytest.approx([30, 20, 10], abs=1), method


def test_a_patch_changes_its_square_only():
    images, targets = torch.full((5, 3, 10, 10), 0.52), torch.ones(5, dtype=torch.long)
    model = SeesMeanBrightness()
    attacked = Patch(TASK, 0.25, 20)(model, images, targets, seeds(5))
    assert ((attacked != images).any(dim=1).flatten(1).sum(1) <= 25).all()
    assert not standing(model, attacked, targets).any()


def test_a_mean_does_not_fall_to_turning_what_is_the_same_everywhere():
    images, targets = torch.full((5, 3, 10, 10), 0.52), torch.ones(5, dtype=torch.long)
    assert standing(SeesMeanBrightness(), Spatial(TASK)(SeesMeanBrightness(), images, targets, seeds(5)), targets).all()


def test_nothing_speaks_against_an_attack_on_an_honest_model(plane):
    model, images, targets, far = plane
    assert masking_symptoms(model, TASK, Ball("Linf", float(far["Linf"].median())), images, targets, seeds(40)) == ()


def test_a_model_that_gives_way_only_to_short_steps_is_not_called_masked():
    """One narrow band of greys is another class than all others: long steps jump over it."""

    def valley(images):
        depth = 0.004**2 - (images.mean(dim=(1, 2, 3)) - 0.62).square()
        return torch.stack((depth, torch.zeros_like(depth)), dim=1)

    images, targets = torch.full((6, 3, 8, 8), 0.75), torch.ones(6, dtype=torch.long)
    assert masking_symptoms(valley, TASK, Ball("Linf", 0.05), images, targets, seeds(6)) == ()


@pytest.mark.parametrize(("model", "words"), [(MaskedGradient(8), "masked"), (NeverWrong(), "without any bound")])
def test_a_model_that_only_looks_robust_is_named(model, words):
    images, targets = torch.full((6, 3, 8, 8), 0.6), torch.ones(6, dtype=torch.long)
    reasons = masking_symptoms(model, TASK, Ball("Linf", 0.1), images, targets, seeds(6))
    assert any(words in reason for reason in reasons), reasons


def test_a_model_that_changes_its_mind_is_named():
    def wavering(images):
        return SeesMeanBrightness()(images + 0.01 * torch.rand_like(images))

    images, targets = torch.full((6, 3, 8, 8), 0.55), torch.ones(6, dtype=torch.long)
    (reason,) = masking_symptoms(wavering, TASK, Ball("Linf", 0.1), images, targets, seeds(6))
    assert "differently from call to call" in reason


class Saturated(torch.nn.Module):
    """A step in the mean brightness, by a hyperbolic tangent: in float32 its gradient is zero on ordinary images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = torch.tanh(1e5 * (images.mean(dim=(1, 2, 3)) - 0.5))
        return torch.stack((-bright, bright), dim=1)


def test_the_ensemble_breaks_what_saturated_logits_hide_from_gradients():
    images, targets = torch.full((10, 3, 8, 8), 0.5 + 1 / 255), torch.ones(10, dtype=torch.long)
    ball = Ball("Linf", 8 / 255)
    left = {attack: int(standing(Saturated(), attack(Saturated(), images, targets, seeds(10)), targets).sum())
            for attack in (Pgd(TASK, ball, 20), Ensemble(TASK, ball, 20))}  # fmt: skip
    pgd, ensemble = left.values()
    assert pgd == 10
    assert ensemble < 5


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_transfer_uses_the_whole_budget_and_attacks_what_the_source_gets_wrong(plane, norm):
    """The plane's best image at a radius is known: the source's margin is its distance minus the radius."""
    model, images, targets, far = plane
    targets = torch.where(torch.arange(len(targets)) < 5, 1 - targets, targets)
    radius = float(far[norm].max()) * 2
    (found,) = Transfer(TASK, norm, (radius,), 20)(model, images, targets, seeds(len(images)))
    margins = (model(found) - model(images)).diff(dim=1)[:, 0].abs()
    weights = model.weights.flatten()
    longest = 2 * radius * float((weights.abs().sum() if norm == "Linf" else weights.norm()).detach())
    assert margins.min() > 0.95 * longest
    assert not standing(model, found, targets).any()
