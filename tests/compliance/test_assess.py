"""Statuses follow the records, worst first, and nobody's word becomes a test."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from auditsvc.compliance.assessment.assessment_context import TRAINED_PARENT, AssessmentContext, ReportInputs
from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Claim, Document, risk_of
from auditsvc.compliance.assessment.evidence_status import evidence_status, worst
from auditsvc.compliance.assessment.framework import WORST_FIRST, load_frameworks
from auditsvc.compliance.assessment.rules import Assessment, assess
from auditsvc.compliance.report.build import build_report
from auditsvc.records import Digest, Verification
from auditsvc.records.data_card import DataCard, DataUse
from auditsvc.resources import resource_dir
from tests.compliance import sample

FRAMEWORKS = {framework.framework: framework for framework in load_frameworks(resource_dir("policies"))}
NIST, EU = FRAMEWORKS["nist-ai-rmf-1.0"], FRAMEWORKS["eu-ai-act-2024-1689"]


def rows(context: AssessmentContext, framework: str = "nist-ai-rmf-1.0") -> dict[str, Assessment]:
    return {row.requirement: row for row in assess(FRAMEWORKS[framework], context)}


def bare(inputs: ReportInputs | None = None) -> AssessmentContext:
    full = sample.paperwork(inputs or sample.released())
    return dataclasses.replace(full, documents=(), answers=(), plans=(), policy_at=None)


def document(kind: str, *, reviewer: str = "rosa.risk", claims: tuple[Claim, ...] = ()) -> Document:
    return Document(
        model="face-attribute",
        document=kind,
        title=kind,
        statement="As said in the file of the model.",
        owner="mia.engineer",
        reviewer=reviewer,
        claims=claims,
        at=sample.MORNING,
        expires=datetime.date(2027, 11, 21),
    )


def answers(**given: str) -> Answers:
    asked = sample.paperwork(sample.released()).questionnaire
    no = {question.question: "no" for question in asked.questions}
    return Answers.model_validate(
        {
            "model": "face-attribute",
            "questionnaire": asked.questionnaire,
            "version": asked.version,
            "answers": {**no, **given},
            "person": "lena.legal",
            "reviewer": "rosa.risk",
            "at": sample.MORNING,
            "expires": datetime.date(2027, 11, 21),
        }
    )


def test_worst_wins_for_every_pair() -> None:
    for better in range(len(WORST_FIRST)):
        for worse in range(better + 1):
            assert worst((WORST_FIRST[better], WORST_FIRST[worse])) == WORST_FIRST[worse]


def test_nothing_at_all_is_not_assessed() -> None:
    assert worst(()) == "not_assessed"


def test_every_row_of_every_framework_gets_one_assessment() -> None:
    for framework in FRAMEWORKS.values():
        assert [row.id for row in framework.requirements] == [a.requirement for a in assess(framework, bare())]


def test_good_statuses_rest_on_records_and_bad_ones_on_reasons() -> None:
    context = sample.paperwork(sample.released())
    for framework in FRAMEWORKS.values():
        for row in assess(framework, context):
            assert row.message
            assert row.records or row.status not in {"supported", "attested", "partly"}


def test_without_a_verified_signature_no_event_is_supported() -> None:
    inputs = dataclasses.replace(sample.released(), verification=None)
    assert not [row for row in rows(bare(inputs)).values() if row.status == "supported"]
    assert rows(bare(inputs))["MANAGE 1.1"].status == "insufficient"


def test_a_release_that_does_not_verify_is_unverified() -> None:
    inputs = sample.released()
    broken = Verification(verdict="INVALID", as_of=sample.EVENING, steps=())
    found = evidence_status("integrity.signature", bare(dataclasses.replace(inputs, verification=broken)))
    assert found.status == "unverified"


def test_a_violated_limit_contradicts_and_a_waived_one_is_never_good() -> None:
    assert evidence_status("fairness.slices", bare(sample.rejected())).status == "contradicted"
    waived = evidence_status("fairness.slices", bare(sample.released()))
    assert waived.status in {"waived", "insufficient"}


def test_measuring_without_a_limit_fixed_beforehand_is_insufficient() -> None:
    found = evidence_status("perf.accuracy", bare())
    assert (found.status, found.message) == ("insufficient", "measured, but no rule of the policy sets a limit")


def test_evidence_grows_stale() -> None:
    later = dataclasses.replace(bare(), at=sample.EVENING + datetime.timedelta(days=91))
    assert evidence_status("robust.occlusion", later).status == "stale"


def test_what_no_check_measured_is_missing() -> None:
    assert evidence_status("sec.poisoning", bare()).status == "missing"


def test_approving_ones_own_submission_contradicts() -> None:
    inputs = dataclasses.replace(sample.released(), submitter="rosa.risk")
    assert evidence_status("gov.approval", bare(inputs)).status == "contradicted"


def test_a_statement_alone_is_never_supported() -> None:
    every = tuple(document(kind) for kind in ("doc.intended_use", "doc.requirements", "doc.business_case"))
    found = rows(dataclasses.replace(bare(), documents=every))
    assert {found[name].status for name in ("MAP 1.1", "MAP 1.4", "MAP 1.6", "MAP 3.1")} == {"attested"}


def test_a_document_that_nobody_else_read_is_partly() -> None:
    alone = dataclasses.replace(bare(), documents=(document("doc.intended_use", reviewer=""),))
    assert rows(alone)["MAP 1.1"].status == "partly"


def test_nobody_reviews_their_own_document() -> None:
    with pytest.raises(ValueError, match="of their own"):
        document("doc.intended_use", reviewer="mia.engineer")


def test_tests_and_reviewed_documents_together_are_supported() -> None:
    found = rows(dataclasses.replace(bare(), documents=(document("doc.roles"),)))
    assert found["GOVERN 2.1"].status == "supported"
    assert rows(bare())["GOVERN 2.1"].status == "missing"


def with_data(licence: str, *, card: bool = True, parent: str = "MIT") -> AssessmentContext:
    """The released model with one recorded training set."""
    inputs = sample.released()
    described = DataCard(
        dataset="sha256:" + "5" * 64, name="train", images=9, source="the clinic", licence=licence, person="ann",
        at=sample.MORNING,
    )  # fmt: skip
    use = DataUse(purpose=TRAINED_PARENT, name="train", dataset=described.dataset, card=described if card else None)
    evidence = tuple(
        run.model_copy(update={"dataset": run.dataset.model_copy(update={"licence": "CC-BY-4.0"})})
        for run in inputs.evidence
    )
    dense = inputs.parent.model_copy(update={"licence": parent})
    return bare(dataclasses.replace(inputs, evidence=evidence, parent=dense, made_from=(use,), not_recorded=()))


@pytest.mark.parametrize(
    ("context", "status", "words"),
    [(with_data("CC0-1.0"), "supported", "permit commercial use; the release owes attribution"),
     (with_data("CC-BY-NC-4.0"), "contradicted", "train (training of the parent) is under CC-BY-NC-4.0"),
     (with_data("our own terms"), "insufficient", "a person settles it in a document data.licence"),
     (with_data("CC0-1.0", card=False), "insufficient", "train (training of the parent) has no card"),
     (with_data("CC0-1.0", parent="unknown"), "missing", "no licence for parent"),
     (dataclasses.replace(with_data("our own terms"), documents=(document("data.licence"),)), "attested", "rosa.risk"),
     (dataclasses.replace(with_data("CC-BY-NC-4.0"), documents=(document("data.licence", reviewer=""),)),
      "contradicted", "no commercial use")],
)  # fmt: skip
def test_licences_are_judged_by_the_table_and_settled_by_two_people(
    context: AssessmentContext, status: str, words: str
) -> None:
    found = evidence_status("data.licence", context)
    assert (found.status, words in found.message) == (status, True), found.message


def test_the_origin_of_all_data_is_supported_only_where_what_trained_the_parent_is_described() -> None:
    statuses = [
        evidence_status("data.provenance", context).status
        for context in (with_data("MIT"), with_data("MIT", card=False), bare())
    ]
    assert statuses == ["supported", "insufficient", "insufficient"]


def test_what_made_the_model_is_in_report_notes_and_bill_of_materials() -> None:
    inputs = dataclasses.replace(sample.released(), made_from=with_data("CC0-1.0").inputs.made_from)
    assert "train was used for training of the parent: CC0-1.0, from the clinic" in inputs.notes
    datasets = build_report(inputs, at=sample.EVENING).bom["metadata"]["component"]["modelCard"]["modelParameters"][
        "datasets"
    ]
    assert [one["description"] for one in datasets if one["name"] == "train"] == ["9 images, CC0-1.0, from the clinic"]


def test_an_expired_document_is_stale() -> None:
    late = datetime.datetime(2027, 12, 1, tzinfo=datetime.UTC)
    context = dataclasses.replace(bare(), documents=(document("doc.intended_use"),), at=late)
    assert rows(context)["MAP 1.1"].status == "stale"


def test_a_document_about_another_candidate_does_not_count() -> None:
    other: Digest = sample.candidate(0.9).digest
    foreign = document("doc.intended_use").model_copy(update={"candidate": other})
    assert rows(dataclasses.replace(bare(), documents=(foreign,)))["MAP 1.1"].status == "missing"


@pytest.mark.parametrize(
    ("given", "declared"),
    [
        ({}, "not high-risk"),
        ({"anx3.4.b": "yes"}, "high-risk"),
        ({"anx3.4.b": "unknown"}, "unknown"),
        ({"art5.1.f": "yes", "anx3.4.b": "yes"}, "prohibited"),
        ({"art5.1.f": "unknown", "anx3.4.b": "yes"}, "unknown"),
        ({"art6.1a": "yes"}, "not high-risk"),
    ],
)
def test_the_risk_class_is_the_worst_answer_and_unknown_is_never_no(given: dict[str, str], declared: str) -> None:
    questionnaire = sample.paperwork(sample.released()).questionnaire
    assert risk_of(questionnaire, answers(**given), sample.EVENING.date()).declared == declared


def test_a_missing_answer_is_unknown() -> None:
    questionnaire = sample.paperwork(sample.released()).questionnaire
    full = answers()
    short = full.model_copy(update={"answers": {k: v for k, v in full.answers.items() if k != "anx3.2"}})
    assert risk_of(questionnaire, short, sample.EVENING.date()).declared == "unknown"


def test_a_prohibited_use_contradicts_its_row() -> None:
    found = rows(dataclasses.replace(bare(), answers=(answers(**{"art5.1.f": "yes"}),)), EU.framework)
    assert found["Art. 5(1)(f)"].status == "contradicted"
    assert found["Art. 5(1)(a)"].status == "attested"


def test_answers_that_nobody_else_read_count_in_part() -> None:
    alone = answers().model_copy(update={"reviewer": None})
    found = rows(dataclasses.replace(bare(), answers=(alone,)), EU.framework)
    assert found["Art. 5(1)(f)"].status == "partly"
    assert "not reviewed" in found["Art. 5(1)(f)"].message


def test_an_open_question_is_not_assessed() -> None:
    found = rows(dataclasses.replace(bare(), answers=(answers(**{"art5.1.f": "unknown"}),)), EU.framework)
    assert found["Art. 5(1)(f)"].status == "not_assessed"


def test_duties_of_high_risk_systems_do_not_apply_to_others_for_a_named_reason() -> None:
    found = rows(dataclasses.replace(bare(), answers=(answers(),)), EU.framework)["Art. 9(8)"]
    assert found.status == "not_applicable"
    assert "lena.legal declared" in found.message


def test_what_applies_later_is_not_yet_due_and_still_shows_its_evidence() -> None:
    found = rows(sample.paperwork(sample.released()), EU.framework)["Art. 9(8)"]
    assert (found.status, found.evidence_status) == ("not_yet_due", "supported")


def test_limits_fixed_after_the_test_contradict() -> None:
    late = dataclasses.replace(bare(), policy_at=sample.EVENING)
    assert rows(late, EU.framework)["Art. 9(8)"].evidence_status == "contradicted"
    assert rows(bare(), EU.framework)["Art. 9(8)"].evidence_status == "missing"


@pytest.mark.parametrize(("value", "status"), [(0.942, "insufficient"), (0.95, "contradicted")])
def test_numbers_in_a_document_must_equal_the_evidence(value: float, status: str) -> None:
    paper = document("doc.instructions", claims=(Claim(metric="score.clean", value=value),))
    found = rows(dataclasses.replace(bare(), documents=(paper,)), EU.framework)["Art. 15(3)"]
    assert found.evidence_status == status


def plan(**changed: object) -> ChangePlan:
    fields = {
        "model": "face-attribute",
        "methods": ("magnitude",),
        "max_targets": {"sparsity": 0.5},
        "max_loss": 1.0,
        "max_loss_of_a_group": 1.0,
        "words": "Magnitude pruning",
        "person": "mia.engineer",
        "reviewer": "otto.owner",
        "at": sample.MORNING,
        "expires": datetime.date(2027, 11, 21),
    }
    return ChangePlan.model_validate({**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"methods": ("random",)}, "the method magnitude is not planned"),
        ({"max_targets": {"sparsity": 0.1}}, "sparsity 0.4 is over 0.1"),
        ({"max_targets": {}}, "sparsity 0.4 is not planned"),
        ({"max_loss": 0.001}, "the loss on overall may be 0.028, over 0.001"),
    ],
)
def test_a_change_outside_the_plan_is_named(changed: dict[str, object], reason: str) -> None:
    assert reason in bare().outside_plan(plan(**changed))


def test_an_unmeasured_group_counts_as_outside_the_plan() -> None:
    assert bare().outside_plan(plan()) == ("the loss on region=Territory was not measured",)


def test_a_change_called_planned_outside_the_plan_contradicts() -> None:
    word = ChangeVerdict(
        candidate=sample.candidate().digest,
        verdict="planned",
        reason="Foreseen.",
        person="otto.owner",
        reviewer="rosa.risk",
        at=sample.EVENING,
    )
    found = rows(dataclasses.replace(bare(), verdicts=(word,), plans=(plan(),)), EU.framework)["Art. 43(4)"]
    assert found.evidence_status == "contradicted"


def test_a_framework_without_any_record_says_nothing_assessed() -> None:
    inputs = sample.rejected()
    empty = dataclasses.replace(bare(inputs))
    kinds = {"sec.poisoning"}
    only = EU.model_copy(update={"requirements": tuple(r for r in EU.requirements if set(r.evidence) == kinds)})
    report = build_report(inputs, at=sample.EVENING, context=empty, frameworks=(only,))
    assert report.frameworks[0].headline == "no requirement was assessed"


def test_rows_out_of_scope_are_listed_and_never_counted() -> None:
    report = build_report(
        sample.released(), at=sample.EVENING, context=sample.paperwork(sample.released()), frameworks=(NIST,)
    )
    part = report.frameworks[0]
    assert sum(count.rows for count in part.counts) == 58
    assert {count.status: count.rows for count in part.not_counted} == {"out_of_scope": 14}
