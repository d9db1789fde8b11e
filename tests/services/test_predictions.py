"""Of a candidate that is only predictions, what answers give is measured, the rest unmeasured, and nothing released."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from auditsvc.datasets.prediction_table import read_predictions
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidDataset, InvalidInput, NotApproved
from auditsvc.ports import Context
from auditsvc.provenance.formats import release_layout
from auditsvc.records import Candidate, Evidence, Measured, Reading, Submission, Unmeasured
from auditsvc.services.audit import AuditResult, audit_candidate
from auditsvc.services.policies import resolve_policy
from auditsvc.services.predictions import submit_predictions
from auditsvc.services.release import refusal_folder, release
from tests.services.line import ports_in

FACTS = {"model": "shoes", "source": "made by a test", "licence": "CC0-1.0"}
IMAGES = 400


@pytest.fixture(scope="module")
def ctx(tmp_path_factory) -> Context:
    return ports_in(tmp_path_factory.mktemp("store"))


def a_table(path: Path, lost: int = 0, *, logits: bool = False, answers: bool = False) -> Path:
    """The parent errs on every tenth image; the candidate also on the first ``lost`` images of camera b."""
    rows, remaining = [], lost
    for number in range(IMAGES):
        truth, camera = "boot" if number % 2 else "shoe", "ab"[number // 2 % 2]
        right = [number % 10 != 0] * 2
        if camera == "b" and right[1] and remaining:
            right[1], remaining = False, remaining - 1
        row = {"image": f"{number}.png", "truth": truth, "camera": camera}
        for whose, good in zip(("parent", "candidate"), right, strict=True):
            told = truth if good else {"boot": "shoe", "shoe": "boot"}[truth]
            if answers:
                row[whose] = told
                continue
            scores = {name: 0.9 if name == told else 0.1 for name in ("shoe", "boot")}
            row |= {f"{whose}_{name}": str(np.log(one) if logits else one) for name, one in scores.items()}
        rows.append(row)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def audited(ctx: Context, path: Path, policy: str = "predictions-only") -> AuditResult:
    candidate, dataset = submit_predictions(ctx, path, FACTS, "sue")
    return audit_candidate(ctx, candidate, resolve_policy(policy), dataset)


def reading(evidence: tuple[Evidence, ...], metric: str, where: str = "overall") -> Reading:
    return next(one for item in evidence for one in item.readings if (one.metric, one.slice) == (metric, where))


def test_an_equal_candidate_is_approved_its_decision_is_signed_and_nothing_is_released(ctx, tmp_path):
    done = audited(ctx, a_table(tmp_path / "equal.csv"))
    assert done.decision.outcome == "approved", done.decision.findings
    outcome = reading(done.evidence, "score.clean").outcome
    assert isinstance(outcome, Measured) and (outcome.value, outcome.images) == (0.9, IMAGES)
    candidate, (submission,) = done.evidence[0].key.candidate, ctx.ledger.find(Submission, done.decision.candidate)
    folder = refusal_folder(ctx, submission, done.decision) / release_layout.REJECTION
    assert (folder / "vsa.sigstore.json").is_file() and not (folder / "oms.sigstore.json").exists()
    with pytest.raises(NotApproved, match="predictions are not released"):
        release(ctx, ctx.ledger.get(Candidate, candidate), done.decision)
    assert done.reports


def test_a_slice_that_loses_is_found_and_rejected(ctx, tmp_path):
    done = audited(ctx, a_table(tmp_path / "lost.csv", lost=60))
    assert done.decision.outcome == "rejected"
    assert done.discovered is not None
    outcome = reading(done.evidence, "drop.clean", "camera=b").outcome
    assert isinstance(outcome, Measured) and outcome.value == pytest.approx(0.3)
    flips = reading(done.evidence, "negative_flip_rate").outcome
    assert isinstance(flips, Measured) and flips.value == pytest.approx(60 / IMAGES)
    calibration = reading(done.evidence, "confidence_change").outcome
    assert isinstance(calibration, Measured) and calibration.value == pytest.approx(0, abs=1e-6)
    assert "the scores are probabilities" in " ".join(done.evidence[0].dataset.notes or ())


def test_what_needs_the_models_is_unmeasured_and_not_passed(ctx, tmp_path):
    done = audited(ctx, a_table(tmp_path / "standard.csv"), "standard")
    assert done.decision.outcome == "inconclusive"
    of_light = (item for item in done.evidence if item.key.check == "lighting")
    lighting = next(one.outcome for item in of_light for one in item.readings)
    assert isinstance(lighting, Unmeasured) and "predictions only" in lighting.reason
    assert any(one.rule == "attacked" and one.verdict == "unknown" for one in done.decision.findings)


def test_answers_without_scores_leave_calibration_unmeasured(ctx, tmp_path):
    done = audited(ctx, a_table(tmp_path / "answers.csv", answers=True))
    outcome = reading(done.evidence, "calibration_error").outcome
    assert isinstance(outcome, Unmeasured) and "needs scores" in outcome.reason
    accuracy = reading(done.evidence, "score.clean").outcome
    assert isinstance(accuracy, Measured) and accuracy.value == 0.9


def test_logits_and_probabilities_give_the_same_numbers(tmp_path):
    both = [read_predictions(a_table(tmp_path / f"{kind}.csv", 9, logits=kind)) for kind in (False, True)]
    for whose in ("parent", "candidate"):
        assert both[0].outputs[whose].allclose(both[1].outputs[whose], atol=1e-6)


def test_parquet_is_read_as_csv_is(tmp_path):
    path = a_table(tmp_path / "one.csv", 9)
    frame = csv_as_parquet(path, tmp_path / "one.parquet")
    both = [read_predictions(one) for one in (path, frame)]
    assert both[0].dataset.classes == both[1].dataset.classes
    assert both[0].outputs["candidate"].allclose(both[1].outputs["candidate"], atol=1e-6)
    assert both[0].dataset.slices.names == both[1].dataset.slices.names == ("overall", "camera=a", "camera=b")


def csv_as_parquet(path: Path, target: Path) -> Path:
    from pyarrow import csv as tables
    from pyarrow import parquet

    parquet.write_table(tables.read_csv(path), target)
    return target


def test_predictions_of_other_images_are_refused(ctx, tmp_path):
    candidate, _ = submit_predictions(ctx, a_table(tmp_path / "one.csv", 3), FACTS, "sue")
    other = a_table(tmp_path / "two.csv", 3)
    other.write_text(other.read_text().replace("7.png", "7000.png"))
    with pytest.raises(InvalidInput, match="not of the images"):
        audit_candidate(ctx, candidate, resolve_policy("predictions-only"), read_predictions(other).dataset)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("1.png,boot,a", "0.png,boot,a", "image 0.png is named by 2 rows"), ("0.png,shoe", ",shoe", "is named by 1 rows"),
     ("0.9", "nan", "is 'nan', not a number"), ("0.9", "0.5", "do not sum to 1"),
     ("parent_boot", "parent_bot", "scores of other classes: boot, bot"),
     ("candidate_", "", "scores of other classes"), ("0.png,shoe", "0.png,shoes", "shoe, boot; did you mean"),
     ("truth", "answer", "no column 'truth'")],
)  # fmt: skip
def test_a_table_that_can_not_be_used_is_refused_by_name(tmp_path, old, new, words):
    path = a_table(tmp_path / "bad.csv")
    path.write_text(path.read_text().replace(old, new, 1 if old == "0.9" else -1))
    with pytest.raises(InvalidDataset) as caught:
        read_predictions(path)
    assert words in str(caught.value)


def test_with_a_data_set_rows_and_images_are_joined_one_to_one(tmp_path):
    for number in range(4):
        Image.new("L", (8, 6), number).save(tmp_path / f"{number}.png")
    facts = {"name": "s", "task": "classification", "target": "label", "classes": ["boot", "shoe"], "source": "t",
             "licence": "CC0-1.0"}  # fmt: skip
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(facts))
    (tmp_path / "metadata.csv").write_text("image,label\n" + "".join(f"{n}.png,boot\n" for n in range(4)))
    data = DatasetReaders().open(tmp_path)
    table = "image,parent_shoe,parent_boot,candidate_shoe,candidate_boot\n"
    path = tmp_path / "p.csv"
    path.write_text(table + "".join(f"{n}.png,{n},0,0,{n}\n" for n in (2, 0, 3, 1)))
    found = read_predictions(path, data)
    assert found.outputs["parent"].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]
    assert found.outputs["candidate"].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
    path.write_text(table + "".join(f"{n}.png,{n},0,0,{n}\n" for n in (2, 0, 3, 9)))
    with pytest.raises(InvalidDataset) as caught:
        read_predictions(path, data)
    assert "no predictions of image 1.png" in str(caught.value) and "image 9.png is not in s" in str(caught.value)


def test_coco_results_are_judged_by_the_metrics_of_detectors(ctx, tmp_path):
    boxes = [[8, 6, 40, 30], [10, 7, 40, 30]]  # they overlap, and whoever made the results kept both
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in range(40)],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [{"image_id": n, "category_id": 5, "bbox": box} for n in range(40) for box in boxes],
    }
    for number in range(40):
        Image.new("L", (80, 60)).save(tmp_path / f"{number}.png")
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    full = [{"image_id": n, "category_id": 5, "bbox": box, "score": 0.9} for n in range(40) for box in boxes]
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "parent.json").write_text(json.dumps(full))
    (tmp_path / "r" / "candidate.json").write_text(json.dumps(full[:60]))
    policy = resolve_policy("standard-detection")
    files = {"parent": tmp_path / "r" / "parent.json", "data": tmp_path}
    facts = FACTS | {"model": "cats"}
    candidate, dataset = submit_predictions(ctx, tmp_path / "r" / "candidate.json", facts, "sue", **files)
    done = audit_candidate(ctx, candidate, policy, dataset)
    assert not done.failures
    recall = reading(done.evidence, "recall").outcome
    assert isinstance(recall, Measured) and recall.value == 0.75
    (tmp_path / "r" / "candidate.json").write_text(json.dumps([full[0] | {"image_id": "0"}]))
    with pytest.raises(InvalidDataset, match="result 0: '0' does not exist"):
        submit_predictions(ctx, tmp_path / "r" / "candidate.json", facts, "sue", **files)
