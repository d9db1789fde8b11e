"""Records as the demo makes them: a face-attribute model pruned by magnitude, measured on 879 portraits.

The numbers follow one story: hardly anything is lost overall, women lose a lot, one region is too small to tell.
"""

from __future__ import annotations

import datetime
import functools
import io
import math
from collections.abc import Mapping
from statistics import NormalDist

from PIL import Image, ImageDraw

from auditsvc.checks import all_checks
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.lighting import EXPOSURE
from auditsvc.checks.occlusion import Occlusion
from auditsvc.compliance.assessment.assessment_context import AssessmentContext, GalleryItem, ReportInputs, Sibling
from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, Document
from auditsvc.compliance.assessment.framework import load_frameworks, load_questionnaire
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from auditsvc.records import (
    Approval,
    Candidate,
    CheckSpec,
    DatasetRef,
    Decision,
    Declarations,
    Evidence,
    EvidenceKey,
    FileEntry,
    Flip,
    Judgement,
    Mark,
    Measured,
    Moment,
    Outcome,
    Parent,
    Policy,
    Reading,
    Recipe,
    Release,
    Rule,
    Step,
    Unmeasured,
    Verdict,
    Verification,
    Waiver,
    digest_of,
    paired_metrics,
)
from auditsvc.records.evidence import DiscoveredSlice, DiscoveredSlices, Exemplar, Exemplars
from auditsvc.resources import resource_dir

SAMPLED = (*Occlusion().families(), *Adversarial().families())
MORNING = datetime.datetime(2026, 11, 22, 9, 0, tzinfo=datetime.UTC)
EVENING = datetime.datetime(2026, 11, 22, 18, 30, tzinfo=datetime.UTC)
SLICES = {
    "overall": 879,
    "gender=F": 157,
    "gender=M": 722,
    "age_group=<50": 214,
    "age_group=50-64": 391,
    "age_group=65+": 274,
    "region=South": 325,
    "region=Midwest": 186,
    "region=West": 203,
    "region=Northeast": 157,
    "region=Territory": 8,
}
PARENT_SCORES = {"overall": 0.961, "gender=F": 0.892, "gender=M": 0.976, "region=West": 0.951, "age_group=65+": 0.967}
LOSSES = {"overall": 0.019, "gender=F": 0.096, "gender=M": 0.0028, "age_group=<50": 0.042, "region=Northeast": 0.026}
CONDITIONS = {
    "lighting": {"exposure@-4EV": (0.29, 0.09), "exposure@-2EV": (0.09, 0.04), "exposure@2EV": (0.12, 0.03)},
    "occlusion": {"occlusion.square@0.1": (0.03, 0.011), "occlusion.square@0.25": (0.10, 0.05)},
    "adversarial": {"pgd@0.25": (0.07, 0.03), "pgd@0.5": (0.19, 0.06), "pgd@1": (0.46, 0.10)},
}
"""For each condition what the parent loses by it, and what pruning loses on top."""

DATASET = DatasetRef(
    name="congress-faces",
    digest=digest_of(b"congress-faces"),
    task="classification",
    images=879,
    slices=tuple(name for name in SLICES if name != "overall"),
    source="Official portraits of members of Congress, public domain",
    licence="CC0-1.0",
)
PARENT = Parent(
    model="face-attribute",
    task="classification",
    architecture="tiny_xception",
    files=(FileEntry(name="model.safetensors", size=1_702_344, digest=digest_of(b"parent weights")),),
    source="third-party gender classifier, trained on IMDB faces by its authors",
    licence="MIT",
    intended_use="Showing how an audit works on a model that regulators care about.",
    not_for="Any decision about a person; telling anyone's gender in real life.",
)


def wilson(share: float, images: int) -> Measured:
    """A share with its one-sided 95 % score bounds."""
    z = 1.6449
    share = min(max(share, 0.0), 1.0)
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z * math.sqrt(share * (1 - share) / images + z * z / (4 * images * images)) / (1 + z * z / images)
    return Measured(value=share, low=min(middle - half, share), high=max(middle + half, share), images=images)


def drop(loss: float, images: int) -> Measured:
    """A paired loss with a rough interval, and the images that were lost and won."""
    spread = math.sqrt((abs(loss) + 0.01) / images)
    won = round(0.005 * images)
    lost = max(won + round(loss * images), 0)
    return Measured(
        value=loss, low=loss - 1.6449 * spread, high=loss + 1.6449 * spread, images=images, lost=lost, won=won,
        p=1 - NormalDist().cdf(loss / spread),
    )  # fmt: skip


def readings(condition: str, harm: float = 0.0, extra: float = 0.0) -> tuple[Reading, ...]:
    """Parent, candidate and loss on every slice under one condition."""
    made = []
    for name, images in SLICES.items():
        if images < 30:
            reason = f"only {images} images, at least 30 are needed"
            made += [
                Reading(metric=f"{head}.{condition}", slice=name, outcome=Unmeasured(reason=reason, images=images))
                for head in ("score", "parent", "drop")
            ]
            continue
        before = PARENT_SCORES.get(name, 0.962) - harm
        loss = LOSSES.get(name, 0.012) + extra * (1.6 if name == "gender=F" else 1.0)
        outcomes = {
            "score": wilson(before - loss, images),
            "parent": wilson(before, images),
            "drop": drop(loss, images),
        }
        made += [Reading(metric=f"{head}.{condition}", slice=name, outcome=found) for head, found in outcomes.items()]
    return tuple(made)


def candidate(sparsity: float = 0.4) -> Candidate:
    """The pruned, marked model."""
    return Candidate(
        model="face-attribute",
        task="classification",
        architecture="tiny_xception",
        files=(FileEntry(name="model.safetensors", size=1_702_344, digest=digest_of(f"weights {sparsity}".encode())),),
        parent=PARENT.digest,
        recipe=Recipe(method="magnitude", targets={"sparsity": sparsity}, seed=7),
        mark=Mark(
            scheme="nullspace-sign",
            commitment=digest_of(b"commitment"),
            unmarked=digest_of(b"unmarked"),
            parameters={"epsilon": 0.003},
        ),
        card={"parameters": 420_000.0, "nonzero": 420_000 * (1 - sparsity), "bytes_dense": 1_702_344.0},
    )


def evidence(check: str, found: tuple[Reading, ...], model: Candidate, *, flips: tuple[Flip, ...] = ()) -> Evidence:
    """One run of one check."""
    key = EvidenceKey(
        candidate=model.digest,
        parent=PARENT.digest,
        dataset=DATASET.digest,
        check=check,
        version=1,
        parameters={"batch": 64}
        if check == "accuracy"
        else {"severities": [name.partition("@")[2] for name in CONDITIONS.get(check, ())]},
        seed=20261122,
        alpha=0.05,
        code="auditsvc 0.1.0",
    )
    return Evidence(
        key=key,
        dataset=DATASET,
        readings=found,
        flips=flips,
        declared=declared(check, found),
        environment={"python": "3.11.2", "torch": "2.12.0", "device": "cpu", "machine": "x86_64"},
        started=MORNING,
        finished=MORNING + datetime.timedelta(minutes=2),
    )


def declared(check: str, found: tuple[Reading, ...]) -> Declarations:
    """What the check of this name declares, about the conditions that were measured here."""
    kind = all_checks()[check]
    families = {family.name: family for family in (EXPOSURE, *SAMPLED)}
    names = dict.fromkeys(reading.metric.partition(".")[2] for reading in found if "@" in reading.metric)
    parts = [name.removesuffix("EV").partition("@") for name in names]
    conditions = [
        families[family].condition(float(severity)).model_copy(update={"name": name})
        for name, (family, _, severity) in zip(names, parts, strict=True)
        if family in families
    ]
    if not conditions:
        return kind().declarations()
    return Declarations(
        topics=tuple(sorted(kind.topics)),
        metrics=paired_metrics(conditions),
        conditions=tuple(conditions),
        families=tuple(families.values()),
    )


def flips() -> tuple[Flip, ...]:
    """Answers that changed on the images as they are."""
    regressed = [
        Flip(
            image=f"F{n:06d}.jpg",
            condition="clean",
            parent="female",
            candidate="male",
            target="female",
            slices=("gender=F", "age_group=<50"),
        )
        for n in range(18)
    ]
    improved = Flip(
        image="M000032.jpg",
        condition="clean",
        parent="female",
        candidate="male",
        target="male",
        slices=("gender=M", "region=West"),
    )
    return (*regressed, improved)


@functools.cache
def portrait(number: int) -> bytes:
    """A drawn portrait as PNG, different for each number."""
    image = Image.new("RGB", (128, 128), (52 + 19 * number % 120, 84, 120))
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 88, 108, 170), fill=(40, 44 + 9 * number % 60, 70))
    pen.ellipse((40, 24, 88, 92), fill=(226 - 13 * number % 90, 186 - 11 * number % 80, 160 - 9 * number % 70))
    pen.ellipse((52, 50, 58, 56), fill=(30, 30, 30))
    pen.ellipse((70, 50, 76, 56), fill=(30, 30, 30))
    pen.arc((54, 62, 74, 78), 20, 160, fill=(90, 40, 40), width=2)
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def gallery() -> tuple[GalleryItem, ...]:
    """Eight images to look at, among them one that got better."""
    return tuple(
        GalleryItem(
            flip.image, portrait(n), flip.parent, flip.candidate, flip.target, flip.slices, flip.condition, flip.change
        )
        for n, flip in enumerate((*flips()[:7], flips()[-1]))
    )


POLICY = Policy(
    policy="standard",
    version=1,
    why="Hardly any loss against the parent, for everybody and in ordinary trouble.",
    seed=20261122,
    checks={name: CheckSpec(version=1) for name in ("accuracy", *CONDITIONS, "calibration", "fairness", "watermark")},
    rules=(
        Rule(
            rule="accuracy-loss",
            reading="accuracy/drop.clean",
            at_most=0.03,
            why="A user would notice more than three points.",
        ),
        Rule(
            rule="accuracy-loss-per-group",
            reading="accuracy/drop.clean",
            slices="each",
            at_most=0.05,
            min_images=30,
            below_minimum="warn",
            why="Nobody should pay for a smaller model alone.",
        ),
        Rule(
            rule="lighting-loss",
            reading="lighting/drop.exposure@*",
            at_most=0.15,
            why="Two stops happen in every street at dusk.",
        ),
        Rule(
            rule="occlusion-loss",
            reading="occlusion/drop.occlusion.square@*",
            at_most=0.12,
            why="A hand or a scarf hides a quarter of a face.",
        ),
        Rule(
            rule="attack-loss",
            reading="adversarial/drop.pgd@*",
            at_most=0.10,
            severity="warn",
            why="The parent has no defence; the pruned model must not be much easier.",
        ),
        Rule(
            rule="watermark-found",
            reading="watermark/log10_p",
            at_most=-12.0,
            why="The owner must be able to recognise the release.",
        ),
    ),
)


def runs(model: Candidate) -> tuple[Evidence, ...]:
    """All evidence about the candidate."""
    marked = (
        Reading(metric="log10_p", slice="overall", outcome=Measured(value=-58.3, low=-58.3, high=-58.3, images=1)),
        Reading(metric="flips", slice="overall", outcome=wilson(0.0023, 879)),
    )
    disturbed = tuple(
        evidence(
            check, tuple(r for name, (harm, extra) in conditions.items() for r in readings(name, harm, extra)), model
        )
        for check, conditions in CONDITIONS.items()
    )
    return (
        evidence("accuracy", readings("clean"), model, flips=flips()),
        *disturbed,
        evidence("calibration", confidence(), model),
        evidence("fairness", rates(), model),
        evidence("watermark", marked, model),
    )


def confidence() -> tuple[Reading, ...]:
    """A candidate that is surer than it is right, beside a parent that is not."""
    made = []
    for whose, excess in (("", 0.05), ("parent_", 0.0)):
        for number in range(1, 9):
            told = 0.55 + 0.055 * number
            made.append(
                Reading(
                    metric=f"{whose}confidence.bin@{number}",
                    slice="overall",
                    outcome=Measured(value=told, low=told, high=told, images=109),
                )
            )
            right = wilson(told - excess, 109)
            made.append(Reading(metric=f"{whose}accuracy.bin@{number}", slice="overall", outcome=right))
    return tuple(made)


def rates() -> tuple[Reading, ...]:
    """How often "female" is said, found, and said of men, by age."""
    made = []
    for name, shift in (("overall", 0.0), ("age_group=<50", 0.02), ("age_group=50-64", 0.0), ("age_group=65+", -0.01)):
        images = SLICES[name]
        for prefix, loss in (("", 0.06), ("parent_", 0.0)):
            found = (
                ("selection_rate", 0.18, images),
                ("tpr", 0.9 - loss, images // 6),
                ("fpr", 0.02, images - images // 6),
            )
            made += [
                Reading(metric=prefix + kind, slice=name, outcome=wilson(rate + shift, number))
                for kind, rate, number in found
            ]
    return tuple(made)


def suggestions() -> DiscoveredSlices:
    """What a search would say: one group that holds on the other half, one that does not."""
    rows = (
        ("gender=F & brightness=below 0.38", 0.15, 0.12, 0.002),
        ("region=West & size=0.3 and over", 0.07, 0.01, 0.6),
    )
    return DiscoveredSlices(
        candidate=candidate().digest,
        parent=PARENT.digest,
        dataset=DATASET.digest,
        seed=20261122,
        alpha=0.05,
        tried=412,
        images_found=440,
        images_held=439,
        groups=tuple(
            DiscoveredSlice(expression=name, found=drop(found, 44), held=drop(held, 41), adjusted=p)
            for name, found, held, p in rows
        ),
        code="auditsvc 0.1.0",
        at=MORNING,
    )


def exemplars() -> Exemplars:
    """What three seeds would change alike."""
    seeds = (candidate().digest, digest_of(b"seed 8"), digest_of(b"seed 9"))
    shown = tuple(
        Exemplar(image=flip.image, target=flip.target, parent=flip.parent, candidates=flip.candidate,
                 agreed=3 if number < 2 else 2, slices=flip.slices)
        for number, flip in enumerate(flips()[:4])
    )  # fmt: skip
    return Exemplars(
        parent=PARENT.digest, dataset=DATASET.digest, candidates=seeds, images=879, changed=16, parent_right=14,
        candidates_right=2, churn=0.028, noise=0.013, shown=shown, code="auditsvc 0.1.0", at=MORNING,
    )  # fmt: skip


def siblings() -> tuple[Sibling, ...]:
    """Two more candidates of the parent: a lighter one that was approved, a heavier one that fell."""
    made = []
    for version, sparsity, loss, outcome in (("2", 0.3, 0.004, "approved"), ("4", 0.7, 0.061, "rejected")):
        model = candidate(sparsity)
        found = (
            Reading(metric="score.clean", slice="overall", outcome=wilson(0.961 - loss, 879)),
            Reading(metric="drop.clean", slice="overall", outcome=drop(loss, 879)),
        )
        made.append(Sibling(version, model, outcome, evidence("accuracy", found, model)))  # type: ignore[arg-type]
    return tuple(made)


@functools.cache
def examples() -> Mapping[str, bytes]:
    """One drawn portrait in less and more light, and partly hidden."""
    image = Image.open(io.BytesIO(portrait(3)))
    made = {f"exposure@{stops:+g}EV": image.point(lambda x, s=stops: min(255, int(x * 2 ** (s / 2.2))))
            for stops in (-4, -2, 2)}  # fmt: skip
    for share in (0.1, 0.25):
        covered, side = image.copy(), int(128 * math.sqrt(share))
        covered.paste((128, 128, 128), (36, 30, 36 + side, 30 + side))
        made[f"occlusion.square@{share:g}"] = covered
    files = {}
    for name, picture in made.items():
        out = io.BytesIO()
        picture.save(out, format="PNG")
        files[name] = out.getvalue()
    return files


def judge(rule: Rule, run: Evidence, waiver: Waiver | None = None) -> tuple[Judgement, ...]:
    """Lines of one rule, by the worse end of each interval."""
    head, _, _ = rule.metric.partition("*")
    made = []
    for reading in run.readings:
        wanted = reading.slice == "overall" if rule.slices == "overall" else reading.slice != "overall"
        if not reading.metric.startswith(head) or not wanted:
            continue
        outcome = reading.outcome
        verdict: Verdict = "unknown"
        words = f"{reading.metric} on {reading.slice} is not known: {getattr(outcome, 'reason', '')}"
        if isinstance(outcome, Measured):
            verdict = "met" if outcome.high <= rule.limit else "violated"
            words = f"{reading.metric} on {reading.slice} may be {outcome.high:.3f}, over the limit {rule.limit:g}"
        severity = rule.below_minimum if outcome.images < rule.min_images else rule.severity
        waived = waiver.digest if waiver and waiver.rule == rule.rule and verdict == "violated" else None
        made.append(
            Judgement(
                rule=rule.rule, metric=reading.metric, slice=reading.slice, verdict=verdict, severity=severity,
                bound="at_most", limit=rule.limit, outcome=outcome, evidence=run.digest, waiver=waived, words=words,
            )
        )  # fmt: skip
    return tuple(made)


def decision(model: Candidate, outcome: Outcome, at: Moment, waiver: Waiver | None = None) -> Decision:
    """All lines under the policy."""
    by_check = {run.key.check: run for run in runs(model)}
    return Decision(
        candidate=model.digest,
        policy=POLICY.digest,
        policy_name=POLICY.policy,
        outcome=outcome,
        judgements=tuple(line for rule in POLICY.rules for line in judge(rule, by_check[rule.check], waiver)),
        evidence=tuple(run.digest for run in by_check.values()),
        waivers=(waiver.digest,) if waiver else (),
        at=at,
    )


@functools.cache
def rejected() -> ReportInputs:
    """Looks fine overall, fails for women."""
    model = candidate()
    return ReportInputs(
        model="face-attribute",
        version="3",
        candidate=model,
        parent=PARENT,
        policy=POLICY,
        decision=decision(model, "rejected", EVENING),
        evidence=runs(model),
        submitter="mia.engineer",
        gallery=gallery(),
        siblings=siblings(),
        examples=examples(),
        exampled="F000003.jpg",
        suggestions=suggestions(),
        exemplars=exemplars(),
        where={
            "Ask the gate again": "auditsvc gate face-attribute 3",
            "Read the policy": "auditsvc policy show standard",
        },
    )


@functools.cache
def released() -> ReportInputs:
    """The same lines with a waiver, two approvals and a sealed release."""
    model = candidate()
    waiver = Waiver(
        candidate=model.digest,
        policy=POLICY.digest,
        rule="accuracy-loss-per-group",
        person="dora.director",
        reason="Demonstration only; nobody is judged by it, and a retrained candidate is due in January.",
        until=datetime.date(2027, 1, 31),
        at=MORNING,
    )
    made = decision(model, "approved", EVENING, waiver)
    approvals = tuple(
        Approval(decision=made.digest, candidate=model.digest, approver=person, comment=comment, at=EVENING)
        for person, comment in (("rosa.risk", "Limits read, waiver seen."), ("otto.owner", ""))
    )
    release = Release(
        model="face-attribute",
        version="3",
        candidate=model.digest,
        decision=made.digest,
        approvals=tuple(approval.digest for approval in approvals),
        files=model.files,
        attestations=(FileEntry(name="release.sigstore.json", size=4096, digest=digest_of(b"bundle")),),
        at=EVENING,
    )
    steps = (
        Step(step="Files equal the signed list", code="FILES_MATCH", ok=True, detail="1 file"),
        Step(step="Release key is trusted", code="KEY_TRUSTED", ok=True, detail="ECDSA P-256"),
        Step(step="Entry is in the log", code="LOG_INCLUDED", ok=True, detail="leaf 41 of 42"),
    )
    return ReportInputs(
        model="face-attribute",
        version="3",
        candidate=model,
        parent=PARENT,
        policy=POLICY,
        decision=made,
        evidence=runs(model),
        approvals=approvals,
        waivers=(waiver,),
        release=release,
        submitter="mia.engineer",
        gallery=gallery(),
        siblings=siblings(),
        examples=examples(),
        exampled="F000003.jpg",
        suggestions=suggestions(),
        exemplars=exemplars(),
        verification=Verification(
            verdict="VALID", as_of=EVENING, steps=steps, notes=("The clock of this machine was trusted.",)
        ),
        where={
            "Verify the release offline": "auditsvc verify releases/face-attribute-3 --key release.pub",
            "Release folder": "releases/face-attribute-3",
        },
    )


def paperwork(inputs: ReportInputs, at: Moment = EVENING) -> AssessmentContext:
    """What people added: a plan, a word on the change, some documents, and answers to every question."""
    questionnaire = load_questionnaire(resource_dir("policies"))
    no = {question.question: "no" for question in questionnaire.questions}
    year = datetime.date(2027, 11, 21)
    return AssessmentContext(
        inputs=inputs,
        questionnaire=questionnaire,
        at=at,
        policy_at=MORNING - datetime.timedelta(days=3),
        answers=(
            Answers(
                model="face-attribute",
                questionnaire=questionnaire.questionnaire,
                version=questionnaire.version,
                answers={**no, "role.provider": "yes", "anx3.1.b": "unknown"},
                person="lena.legal",
                reviewer="rosa.risk",
                at=MORNING,
                expires=year,
            ),
        ),
        documents=tuple(
            Document(
                model="face-attribute",
                document=kind,
                title=title,
                statement=statement,
                owner="mia.engineer",
                reviewer=reviewer,
                at=MORNING,
                expires=year,
            )
            for kind, title, statement, reviewer in (
                (
                    "doc.intended_use",
                    "Intended use",
                    "Shows how an audit works.",
                    "rosa.risk",
                ),
                ("doc.limitations", "Known limits", "Trained on celebrities; two answers only.", "rosa.risk"),
                ("doc.test_plan", "Test plan", "The policy “standard” and its checks.", ""),
            )
        ),
        plans=(
            ChangePlan(
                model="face-attribute",
                methods=("magnitude",),
                max_targets={"sparsity": 0.5},
                max_loss=0.03,
                max_loss_of_a_group=0.05,
                words="Magnitude pruning up to half of the weights",
                person="mia.engineer",
                reviewer="otto.owner",
                at=MORNING,
                expires=year,
            ),
        ),
    )


@functools.cache
def report(name: str = "released") -> Report:
    """The whole report of one of the samples, held against every framework."""
    inputs = {"released": released, "rejected": rejected}[name]()
    frameworks = load_frameworks(resource_dir("policies"))
    return build_report(inputs, at=EVENING, context=paperwork(inputs), frameworks=frameworks)
