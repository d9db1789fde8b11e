"""The adversarial check on models whose breaking budget is known, and against ART."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from auditsvc.checks.adversarial import Adversarial
from auditsvc.evaluation.attacks import Ball, Budgets, HopSkipJump, Pgd, diagnostics
from auditsvc.records import OVERALL, Measured, Unmeasured
from auditsvc.tasks.classification import Classification
from tests.fakes.models import MaskedGradient, NeverWrong, SeesMeanBrightness, array_dataset, case_of, grey_dataset

LEVELS = [0.5 + sign * far / 255 for far in (0.3, 0.7, 1.5, 3.0) for sign in (-1, 1)]


def outcomes(check, case):
    return {(reading.metric, reading.slice): reading.outcome for reading in check.measure(case)}


def test_a_mean_falls_at_its_distance_from_the_threshold():
    found = outcomes(
        Adversarial(budgets=(0.5, 1, 2), steps=10),
        case_of(SeesMeanBrightness(0.5), SeesMeanBrightness(0.5), grey_dataset(LEVELS)),
    )
    assert [found[f"score.pgd@{budget}", OVERALL].value for budget in (0.5, 1, 2)] == [0.75, 0.5, 0.25]
    assert [found[f"drop.pgd@{budget}", OVERALL].value for budget in (0.5, 1, 2)] == [0, 0, 0]


def test_a_candidate_whose_threshold_moved_loses_one_side_only():
    moved = 0.5 + 0.4 / 255
    found = outcomes(
        Adversarial(budgets=(0.5,), steps=10),
        case_of(SeesMeanBrightness(moved), SeesMeanBrightness(0.5), grey_dataset(LEVELS)),
    )
    assert found["drop.pgd@0.5", "kind=bright"].value == 0.25
    assert found["drop.pgd@0.5", "kind=dark"].value == -0.25


@pytest.mark.parametrize("method", ["fgsm", "pgd", "apgd", "minimal", "ensemble", "autoattack"])
def test_every_method_gives_the_known_curve(method):
    check = Adversarial(budgets=(0.5, 1, 2), methods=(method,), steps=30, queries=10, curve=True)
    found = outcomes(check, case_of(SeesMeanBrightness(), SeesMeanBrightness(), grey_dataset(LEVELS)))
    assert {metric for metric, _ in found} == {one.id for one in check.metrics()}
    assert found[f"failure_severity.{method}", OVERALL].value == pytest.approx(1.0)
    heights, steps = [1, 0.75, 0.5, 0.25], [0.5, 0.5, 1]
    area = sum(step * (heights[k] + heights[k + 1]) / 2 for k, step in enumerate(steps)) / 2
    assert found[f"area.{method}", OVERALL].value == pytest.approx(area)
    assert found[f"area_loss.{method}", OVERALL].value == 0


@pytest.mark.parametrize("seat", ["candidate", "parent"])
@pytest.mark.parametrize(("model", "words"), [(MaskedGradient(), "gradient is masked"), (NeverWrong(), "any bound")])
def test_what_only_looks_robust_is_unmeasured(seat, model, words):
    pair = {"candidate": SeesMeanBrightness(), "parent": SeesMeanBrightness(), seat: model}
    found = outcomes(Adversarial(budgets=(1,), turns=(5,)), case_of(dataset=grey_dataset([0.6, 0.7, 0.8]), **pair))
    outcome = found["score.pgd@1", OVERALL]
    assert isinstance(outcome, Unmeasured)
    assert f"{seat}: " in outcome.reason and words in outcome.reason
    assert isinstance(found["score.spatial@5", OVERALL], Measured)


def test_a_search_without_gradients_is_measured_where_gradients_lead_nowhere():
    check = Adversarial(budgets=(8, 40), methods=("pgd", "hopskipjump"), steps=10, curve=True, errors_apart=True)
    found = outcomes(check, case_of(MaskedGradient(), SeesMeanBrightness(), grey_dataset([0.6, 0.6])))
    assert {metric for metric, _ in found} == {one.id for one in check.metrics()}
    assert isinstance(found["score.pgd@8", OVERALL], Unmeasured)
    blind = [found[f"score.hopskipjump@{budget}", OVERALL].value for budget in (8, 40)]
    assert blind[0] == 1.0 > blind[1]
    assert found["false_negative.hopskipjump@40", "kind=bright"].value == 1 - blind[1]


def test_a_weak_attack_of_ours_is_found_by_the_toolbox(monkeypatch):
    """With our own attack switched off, the reading must not be taken for robustness."""
    check = Adversarial(budgets=(2,), steps=5, cross_check=True)
    bright = grey_dataset([0.5 + far / 255 for far in (0.3, 0.4, 1.5)])
    case = case_of(SeesMeanBrightness(), SeesMeanBrightness(), bright)
    assert found_robust(check, case) == 0.0
    monkeypatch.setattr(diagnostics, "masking_symptoms", lambda *_: ())
    monkeypatch.setattr("auditsvc.checks.adversarial.masking_symptoms", lambda *_: ())
    monkeypatch.setattr(diagnostics, "Pgd", lambda *_: lambda outputs, images, targets, seeds: images)
    outcome = outcomes(check, case)["score.pgd@2", OVERALL]
    assert isinstance(outcome, Unmeasured) and "3 fewer images standing" in outcome.reason


def found_robust(check, case):
    return outcomes(check, case)["score.pgd@2", OVERALL].value


def test_the_toolbox_leaves_numpys_chance_as_it_was_and_does_not_depend_on_it():
    images, targets, seeds = torch.full((3, 3, 8, 8), 0.52), torch.ones(3, dtype=torch.long), torch.arange(3)
    attack = HopSkipJump(Classification(("dark", "bright")), "L2", 2)
    np.random.seed(1)
    first, state = attack(SeesMeanBrightness(), images, targets, seeds), np.random.get_state()[1].copy()
    np.random.seed(1)
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    parts = [attack(SeesMeanBrightness(), images[part], targets[part], seeds[part]) for part in seeds.flip(0).split(1)]
    assert torch.equal(torch.cat(parts).flip(0), first)
    assert not torch.equal(first, images)


def test_images_made_against_one_model_are_tried_on_the_other():
    moved = 0.5 - 20 / 255
    check = Adversarial(budgets=(0.5,), steps=10, transfer=True)
    bright = grey_dataset([0.5 + far / 255 for far in (0.3, 0.4)])
    found = outcomes(check, case_of(SeesMeanBrightness(moved), SeesMeanBrightness(0.5), bright))
    assert found["parent.pgd@0.5", OVERALL].value == 0
    assert found["score.transfer@0.5", OVERALL].value == 1
    assert found["parent.transfer@0.5", OVERALL].value == 0


def test_transfer_does_not_stop_where_the_source_breaks():
    """The candidate breaks 1.5 grey levels below its parent; the parent's own nearest broken image would not do."""
    check = Adversarial(budgets=(1, 2), transfer=True)
    moved = SeesMeanBrightness(0.5 - 1.5 / 255)
    found = outcomes(check, case_of(moved, SeesMeanBrightness(0.5), grey_dataset([0.5 + 0.3 / 255] * 4)))
    assert [found[f"score.transfer@{budget}", OVERALL].value for budget in (1, 2)] == [1, 0]
    assert [found[f"parent.transfer@{budget}", OVERALL].value for budget in (1, 2)] == [0, 0]


@pytest.mark.parametrize("seat", ["candidate", "parent"])
def test_a_model_that_hides_its_gradient_falls_to_the_images_made_against_the_other(seat):
    pair = {"candidate": SeesMeanBrightness(), "parent": SeesMeanBrightness(), seat: MaskedGradient()}
    attacks = Budgets(Classification(("dark", "bright")), "Linf", (40 / 255,), "pgd", 10)
    scores = {}
    for crossed in (False, True):
        case = case_of(dataset=grey_dataset([0.55, 0.56, 0.45]), **pair)
        (found,) = case.pairs_attacked(("pgd@40",), attacks, None, crossed=crossed)
        scores[crossed] = getattr(found, seat)["score"].tolist()
    assert scores == {False: [1, 1, 1], True: [0, 0, 0]}


def test_an_attack_that_is_too_weak_for_these_models_proves_nothing(monkeypatch):
    check = Adversarial(budgets=(2,), steps=5)
    case = case_of(SeesMeanBrightness(), SeesMeanBrightness(), grey_dataset([0.5 + far / 255 for far in (0.3, 0.4, 9)]))
    monkeypatch.setattr(Budgets, "attack", lambda *_: lambda outputs, images, targets, seeds: images)
    outcome = outcomes(check, case)["score.pgd@2", OVERALL]
    assert isinstance(outcome, Unmeasured)
    assert "candidate: a stronger attack breaks 67% more of 3 images" in outcome.reason


def test_all_declared_metrics_come_and_no_other():
    check = Adversarial(
        budgets=(1,), l2_budgets=(0.05,), methods=("fgsm", "pgd"), patches=(0.1,), turns=(5,), transfer=True, curve=True
    )
    for model in (SeesMeanBrightness(), MaskedGradient()):
        case = case_of(model, SeesMeanBrightness(), grey_dataset([0.4, 0.6]))
        assert {metric for metric, _ in outcomes(check, case)} == {one.id for one in check.metrics()}


@pytest.mark.parametrize("size", [1, 3, 50])
def test_batch_size_never_changes_what_survives(size):
    images = 0.5 + 0.02 * torch.randn(30, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    dataset = array_dataset(images, (images.mean(dim=(1, 2, 3)) > 0.5).long().numpy())
    check = Adversarial(budgets=(0.1, 0.5), images=20)
    one = case_of(SeesMeanBrightness(0.5003), SeesMeanBrightness(), dataset, batch_size=size)
    other = case_of(SeesMeanBrightness(0.5003), SeesMeanBrightness(), dataset, batch_size=7)
    assert list(check.measure(one)) == list(check.measure(other))


def small_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, stride=2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(8 * 36, 4),
    ).requires_grad_(False)  # fmt: skip


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_no_more_images_survive_than_survive_art(norm):
    """The Adversarial Robustness Toolbox's PGD with the same radius and steps is the reference."""
    evasion = pytest.importorskip("art.attacks.evasion")
    classifiers = pytest.importorskip("art.estimators.classification")
    network = small_network()
    images = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    targets = network(images).argmax(1)
    wrapped = classifiers.PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (3, 16, 16), 4, clip_values=(0, 1), device_type="cpu"
    )
    radius = 0.01 if norm == "Linf" else 0.25
    theirs = evasion.ProjectedGradientDescent(
        wrapped, norm=np.inf if norm == "Linf" else 2, eps=radius, eps_step=radius / 4, max_iter=10, verbose=False
    ).generate(images.numpy(), targets.numpy())
    ours = Pgd(Classification(tuple("abcd")), Ball(norm, radius), 10)(network, images, targets, torch.arange(60))
    left = [int((network(found).argmax(1) == targets).sum()) for found in (ours, torch.from_numpy(theirs))]
    one_image = int(norm == "L2")  # both start at random inside the ball
    assert 0 < left[0] <= left[1] + one_image < 60
