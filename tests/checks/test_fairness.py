"""Fairness readings are fairlearn's numbers, with intervals that keep their promise and say what they left out."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import demographic_parity_difference, demographic_parity_ratio, equalized_odds_difference

from auditsvc.adapters.metric_frames import frame_of, metric_frame
from auditsvc.checks.fairness import KINDS, Cells, Fairness, gaps, rates_of, ratios, worst_of
from auditsvc.datasets import Slices, column_from
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.paired import empty_predictions
from auditsvc.records import OVERALL, Measured, Unmeasured
from tests.fakes.models import NeverWrong, SeesMeanBrightness, array_dataset, case_of, grey_dataset
from tests.gate.sample import an_evidence


def drawn(seed, images=400, groups="abcd", classes=2, rates=None):
    """Answers that depend on group and target, and the column of groups."""
    rng = np.random.default_rng(seed)
    answers = empty_predictions(images, 0)
    which = rng.integers(0, len(groups), images)
    answers["target"] = rng.integers(0, classes, images)
    wrong = rng.random(images) < (np.linspace(0.05, 0.4, len(groups)) if rates is None else np.array(rates))[which]
    answers["answer"] = np.where(wrong, rng.integers(0, classes, images), answers["target"])
    return answers, Slices(images, (column_from("group", [groups[number] for number in which]),))


@pytest.mark.parametrize("seed", range(5))
def test_differences_and_ratios_are_fairlearns(seed):
    answers, slices = drawn(seed)
    frame = metric_frame(answers, slices.columns[0], 1)
    given = {"y_true": answers["target"], "y_pred": answers["answer"], "sensitive_features": slices.columns[0].codes}
    differences = {
        kind: gaps([rates_of(kind, answers, 1, slices)], slices, ("group",), 0.05, 1)[OVERALL].value for kind in KINDS
    }
    parity = ratios([rates_of("selection", answers, 1, slices)], slices, ("group",), 0.05, 1)[OVERALL].value
    assert differences == pytest.approx(frame.difference()[list(KINDS)].to_dict(), abs=1e-12)
    assert differences["selection"] == pytest.approx(demographic_parity_difference(**given), abs=1e-12)
    assert max(differences["tpr"], differences["fpr"]) == pytest.approx(equalized_odds_difference(**given), abs=1e-12)
    assert parity == pytest.approx(demographic_parity_ratio(**given), abs=1e-12)


def test_rates_by_group_are_fairlearns_for_every_class_against_the_rest():
    answers, slices = drawn(7, classes=4)
    for positive in range(4):
        frame = metric_frame(answers, slices.columns[0], positive).by_group
        for kind in KINDS:
            ours = rates_of(kind, answers, positive, slices).interval(0.05).value[1:]
            assert ours == pytest.approx(frame[kind].to_numpy(), abs=1e-12)


def test_a_frame_from_stored_evidence_is_the_frame_of_the_images():
    rng = np.random.default_rng(9)
    dataset = grey_dataset([float(level) for level in rng.random(300)])
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(0.5), dataset)
    evidence = an_evidence({(one.metric, one.slice): one.outcome for one in Fairness().measure(case)}, check="fairness")
    pair = case.pair("clean")
    column = dataset.slices.columns[0]
    for answers, parent in ((pair.candidate, False), (pair.parent, True)):
        ours, theirs = frame_of(evidence, column.column, parent=parent), metric_frame(answers, column, 1)
        for kind in KINDS:
            expected = theirs.by_group[kind].to_dict()
            assert ours.by_group[kind].to_dict() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    overall = {one.metric: one.outcome for one in Fairness().measure(case) if one.slice == OVERALL}
    assert overall["tpr"].images == int((pair.candidate["target"] == 1).sum())
    assert overall["selection_rate"].value == pytest.approx(float((pair.candidate["answer"] == 1).mean()))


def test_evidence_of_another_check_or_column_gives_no_frame():
    with pytest.raises(InvalidInput, match="no rate of groups"):
        frame_of(an_evidence({("drop.clean", OVERALL): Unmeasured(reason="no light")}), "kind")


@pytest.mark.slow
def test_resampling_counts_is_resampling_rows():
    """Against fairlearn's own bootstrap of rows: quantiles of the rates equal within simulation error."""
    from fairlearn.metrics import MetricFrame, selection_rate

    answers, slices = drawn(3, images=600, groups="ab")
    codes = slices.columns[0].codes
    ours = Cells.of(codes, answers["answer"], (2, 2)).resampled((1,), (0, 1), 4000, np.random.default_rng(0))
    frame = MetricFrame(metrics=selection_rate, y_true=answers["target"], y_pred=answers["answer"], n_boot=400,
                        sensitive_features=codes, ci_quantiles=[0.05, 0.5, 0.95], random_state=1)  # fmt: skip
    theirs = np.array([np.asarray(one) for one in frame.by_group_ci])
    assert np.quantile(ours, (0.05, 0.5, 0.95), axis=0) == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("rates", [[0.1, 0.1, 0.1, 0.1], [0.05, 0.1, 0.2, 0.35]])
def test_the_ends_of_the_largest_difference_err_as_rarely_as_they_promise(rates):
    """Selection of class 1 is one half in every group, however often the answer is wrong; the TPR is not."""
    truth = (max(rates) - min(rates)) / 2
    found = []
    for seed in range(300):
        answers, slices = drawn(seed, images=600, rates=rates)
        found.append(gaps([rates_of("tpr", answers, 1, slices)], slices, ("group",), 0.05, 30)[OVERALL])
    assert np.mean([gap.low > truth + 1e-12 for gap in found]) <= 0.05
    assert np.mean([gap.high < truth for gap in found]) <= 0.065


def test_groups_that_are_too_small_can_fail_and_never_pass_and_are_named():
    levels = [0.1, 0.3, 0.45, 0.55, 0.7, 0.9] * 20
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(), grey_dataset(levels))
    found = {(item.metric, item.slice): item.outcome for item in Fairness(min_images=70).measure(case)}
    parity = found["demographic_parity_difference", OVERALL]
    assert (parity.value, parity.high) == (pytest.approx(2 / 3), 1.0) and parity.low > 0.3
    assert "kind=dark (60 images)" in parity.which
    assert found["demographic_parity_ratio", OVERALL].low == 0.0
    assert found["parent_demographic_parity_difference", OVERALL].value == 1.0
    assert isinstance(found["tpr_difference", OVERALL], Unmeasured)
    assert "kind=dark (0 images)" in found["tpr_difference", "kind=bright"].reason
    assert {metric for metric, _ in found} == {one.id for one in Fairness().metrics()}
    assert len(found) == len(Fairness().metrics()) * 3


def answered(*groups):
    """Answers and the column of groups from ``(name, target, answer, images)``."""
    answers = empty_predictions(sum(group[3] for group in groups), 0)
    for field, place in (("target", 1), ("answer", 2)):
        answers[field] = np.concatenate([np.full(group[3], group[place]) for group in groups])
    names = [group[0] for group in groups for _ in range(group[3])]
    return answers, Slices(len(names), (column_from("group", names),))


def test_equalized_odds_are_not_measured_where_half_of_them_is_not():
    """Group x misses every positive and has no negative: a difference of 0 would hide it."""
    answers, slices = answered(("x", 1, 0, 80), ("y", 0, 0, 80), ("z", 0, 0, 80))
    kinds = {kind: gaps([rates_of(kind, answers, 1, slices)], slices, ("group",), 0.05, 30) for kind in ("tpr", "fpr")}
    odds = worst_of([kinds["tpr"][OVERALL], kinds["fpr"][OVERALL]])
    assert (odds.value, odds.high) == (0.0, 1.0)
    assert set(odds.too_small) == {"group=y (0 images)", "group=z (0 images)", "group=x (0 images)"}


def test_a_small_group_does_not_drop_out_of_the_worst():
    answers, slices = answered(("a", 1, 1, 200), ("b", 1, 1, 200), ("c", 1, 0, 12))
    found = gaps([rates_of("tpr", answers, 1, slices)], slices, ("group",), 0.05, 30)
    assert found[OVERALL].value == 1.0 and found[OVERALL].low > 0.5 and "group=c" in found[OVERALL].pair
    kept, slices = answered(("a", 1, 1, 200), ("b", 1, 1, 200), ("c", 1, 1, 12))
    quiet = gaps([rates_of("tpr", kept, 1, slices)], slices, ("group",), 0.05, 30)
    assert (quiet[OVERALL].value, quiet[OVERALL].low, quiet[OVERALL].high) == (0.0, 0.0, 1.0)
    whole, slices = answered(("a", 1, 1, 200), ("b", 1, 1, 200))
    assert gaps([rates_of("tpr", whole, 1, slices)], slices, ("group",), 0.05, 30)[OVERALL].high < 0.03


def test_a_column_that_is_not_named_is_not_compared():
    images = grey_dataset([0.1, 0.9] * 60).images
    dataset = array_dataset(images, np.ones(120, np.int64), {"kind": ["x", "y"] * 60, "half": ["l"] * 60 + ["r"] * 60})
    case = case_of(SeesMeanBrightness(), NeverWrong(), dataset)
    found = {(item.metric, item.slice): item.outcome for item in Fairness(columns=("half",)).measure(case)}
    assert found["tpr_difference", OVERALL].value == 0.0
    assert isinstance(found["tpr_difference", "kind=x"], Unmeasured)
    every = {(item.metric, item.slice): item.outcome for item in Fairness().measure(case)}
    assert isinstance(every["tpr_difference", "kind=x"], Measured)
    assert every["tpr_difference", OVERALL].value == every["equalized_odds_difference", "kind=y"].value == 1.0
