"""From records to what is drawn: confidence against being right, the compression frontier, example images."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

from auditsvc.compliance.figures import Figure, Gap, Number
from auditsvc.compliance.inputs import Readings, ReportInputs, Sibling, figure_of
from auditsvc.compliance.views import (
    ConfidenceBin,
    Example,
    ExemplarsPart,
    FrontierPoint,
    RateRow,
    Reliability,
    SuggestedPart,
    SuggestedRow,
)
from auditsvc.compliance.words import amount, condition_parts, condition_words, plain, plural
from auditsvc.records import OVERALL, Candidate, Digest, Evidence, Measured


def reliability(readings: Readings) -> Reliability | None:
    """The reliability curves, where a check told them."""
    candidate, parent = tuple(_bins("", readings)), tuple(_bins("parent_", readings))
    return Reliability(candidate=candidate, parent=parent) if candidate and parent else None


def _bins(whose: str, readings: Readings) -> Iterator[ConfidenceBin]:
    number = 1
    while True:
        told, right = (readings.get(f"{whose}{kind}.bin@{number}", OVERALL) for kind in ("told", "right"))
        if not isinstance(told, Number) or not isinstance(right, Number):
            return
        yield ConfidenceBin(told=told, right=right)
        number += 1


_RATES = ("selection", "tpr", "fpr")


def rates(readings: Readings) -> tuple[RateRow, ...]:
    """How often the class is said, found, and said where it is not, for each group of which that was measured."""
    made = []
    for name in readings.slices("selection"):
        own, dense = ([readings.get(prefix + kind, name) for kind in _RATES] for prefix in ("", "parent_"))
        if any(isinstance(figure, Number) for figure in own):
            made.append(RateRow(slice=name, candidate=(own[0], own[1], own[2]), parent=(dense[0], dense[1], dense[2])))
    return tuple(made)


def frontier(inputs: ReportInputs) -> tuple[FrontierPoint, ...]:
    """Every judged candidate of this parent, the largest first; none where there is only this one."""
    own = Sibling(
        version=inputs.version,
        candidate=inputs.candidate,
        outcome=inputs.decision.outcome,
        evidence=next((run for run in inputs.evidence if _clean(run)), None),
    )
    others = [other for other in inputs.siblings if other.candidate.digest != inputs.candidate.digest]
    if not others:
        return ()
    points = (_point(one, here=one is own) for one in (own, *others))
    return tuple(sorted(points, key=lambda point: (-point.kept, point.version)))


def _clean(run: Evidence) -> bool:
    return any(reading.metric == "drop.clean" for reading in run.readings)


def _point(one: Sibling, *, here: bool) -> FrontierPoint:
    card = one.candidate.card
    return FrontierPoint(
        version=one.version,
        candidate=one.candidate.digest,
        recipe=_recipe(one.candidate),
        kept=card.get("nonzero", card.get("parameters", 0.0)),
        size=card.get("bytes_compressed", card.get("bytes_dense", 0.0)),
        outcome=one.outcome,
        here=here,
        score=_overall(one.evidence, "score.clean"),
        loss=_overall(one.evidence, "drop.clean"),
    )


def _recipe(candidate: Candidate) -> str:
    recipe = candidate.recipe
    return "pruned elsewhere" if recipe is None else f"{recipe.method}, {plain(recipe.targets)}"


def _overall(run: Evidence | None, metric: str) -> Figure:
    if run is None:
        return Gap(reason="no evidence on these images")
    return figure_of(metric, run.reading(metric, OVERALL), run.digest, run.key.alpha)


def suggested(inputs: ReportInputs) -> SuggestedPart | None:
    """The groups that a search suggests, where one was made."""
    found = inputs.suggestions
    if found is None:
        return None
    record = found.digest

    def number(outcome: Measured) -> Number:
        made = figure_of("drop.clean", outcome, record, found.alpha)
        if not isinstance(made, Number):
            raise TypeError("a suggestion has numbers")
        return made

    rows = (
        SuggestedRow(expression=one.expression, found=number(one.found), held=number(one.held), adjusted=one.adjusted)
        for one in found.groups
    )
    return SuggestedPart(
        rows=tuple(rows),
        tried=found.tried,
        images_found=found.images_found,
        images_held=found.images_held,
        evidence=record,
    )


def exemplars(inputs: ReportInputs, most: int = 12) -> ExemplarsPart | None:
    """What several seeds of the recipe change alike, where several were made."""
    found = inputs.exemplars
    if found is None:
        return None
    words = (
        f"Of {len(found.candidates)} seeds of this recipe, most answer {plural(found.changed, 'image')} of "
        f"{found.images} otherwise than the parent, who has {found.parent_right} of these right; they have "
        f"{found.candidates_right}. "
        f"One seed changes {amount(found.churn, 'share')} of the answers on average, and two seeds differ from each "
        f"other on {amount(found.noise, 'share')}: what is changed alike is pruning, the rest is luck."
    )
    return ExemplarsPart(words=words, rows=found.shown[:most], seeds=len(found.candidates), evidence=found.digest)


def related(inputs: ReportInputs) -> Mapping[Digest, str]:
    """Records beside the candidate's own evidence that numbers rest on, with what each is."""
    own = set(inputs.runs)
    found = {one.evidence.digest: one.version for one in inputs.siblings if one.evidence is not None}
    named = {digest: f"version {version}" for digest, version in found.items() if digest not in own}
    if inputs.suggestions:
        named[inputs.suggestions.digest] = "suggested groups"
    if inputs.exemplars:
        named[inputs.exemplars.digest] = "several seeds of the recipe"
    return named


def examples(inputs: ReportInputs) -> tuple[Example, ...]:
    """One image under each condition that can be shown, weakest first in each family."""
    made = []
    for condition, data in inputs.examples.items():
        parts = condition_parts(condition)
        if parts is None:
            continue
        title = condition_words(condition)
        made.append(
            Example(
                family=parts[0],
                severity=parts[1],
                condition=condition,
                title=title,
                media_type="image/jpeg" if data[:2] == b"\xff\xd8" else "image/png",
                data=base64.b64encode(data).decode("ascii"),
                alt=f"The test image {inputs.exampled} with {title}",
            )
        )
    return tuple(sorted(made, key=lambda one: (one.family, one.severity)))
