"""Can the images and labels carry a verdict?

Copies, images that show nothing, wrong labels, images that also trained the model, groups that are missing: each makes
the numbers of an audit say less, or something else, than they seem to say.  Wrong labels are those that the parent
contradicts with confidence, which never learned from them; the loss without these images says what they do to the
verdict.  Leaks are unmeasured unless it is recorded what trained the parent (``auditsvc data used``).

``target`` has the share that each group should have, in a census or in use: ``{"gender=F": 0.51, "gender=M": 0.49}``,
or products, ``"gender=F & age_group=65+"``.  ``use`` is what releases are for: which licences conflict depends on it.

Reference: ``evaluation.metrics.label_noise`` and ``datasets.representation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.representation import representation
from auditsvc.evaluation import CLEAN, Check, EvalContext, wilson
from auditsvc.evaluation.metrics.label_noise import suspects
from auditsvc.evaluation.paired import paired_readings
from auditsvc.models.model import PREDICTIONS
from auditsvc.records import OVERALL, Condition, Measured, Metric, Reading, Unmeasured, paired_metrics
from auditsvc.records.licences import Use, reviewed

_TRUSTED = Condition(name="trusted", words="without images whose label is suspected")

_METRICS = (
    Metric(id="copies", kind="proportion", unit="%", better="lower",
           title="images that equal or nearly equal another one of the data set"),
    Metric(id="unusable", kind="proportion", unit="%", better="lower",
           title="images of one colour, or mostly black or white where others are not"),
    Metric(id="leaked", kind="count", better="lower", title="images that made the candidate or its parent"),
    Metric(id="shared_subjects", kind="count", better="lower",
           title="subjects, sequences or places of which other images made the candidate or its parent"),
    Metric(id="undocumented", kind="count", better="lower",
           title="data sets without a card that made the candidate or its parent"),
    Metric(id="licence_conflicts", kind="count", better="lower",
           title="licences of parent and data that do not permit the use"),
    Metric(id="label_noise", kind="proportion", unit="%", better="lower",
           title="images whose label the parent contradicts with confidence"),
    Metric(id="imbalance", kind="quantity", better="lower", title="images of the largest class over the smallest"),
    Metric(id="representation", kind="quantity", unit="%", better="lower",
           title="images that would have to be of other groups for the shares of the target"),
    Metric(id="empty_groups", kind="count", better="lower", title="groups of the target without an image"),
    Metric(id="missing_images", kind="count", better="lower",
           title="images missing in groups for the shares of the target"),
)  # fmt: skip

Outcomes = Mapping[str, Measured | Unmeasured]


class DataQuality(Check):
    """Measure the data set that a verdict rests on.

    Emits on ``overall`` what ``metrics`` lists, and on every slice ``score.trusted``, ``parent.trusted`` and
    ``drop.trusted``: accuracy and loss on the images whose label is not suspected.
    """

    id = "data_quality"
    version = 1
    needs = "answers"
    topics = frozenset({"data.quality"})

    asks_ledger = True

    target: dict[str, Annotated[float, Field(ge=0)]] = {}
    use: Use = "commercial"

    def conditions(self) -> tuple[Condition, ...]:
        """Images whose label is not suspected."""
        return (_TRUSTED,)

    def metrics(self) -> tuple[Metric, ...]:
        """Of the data set, and the loss without suspected labels."""
        return (*_METRICS, *paired_metrics(self.conditions()))

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass of the parent for the labels."""
        found = {**self._facts(case), **self._represented(case)}
        suspected = _suspected(case)
        if isinstance(suspected, str):
            none = Unmeasured(reason=suspected)
            found |= dict.fromkeys(("label_noise", "imbalance", *(one.id for one in paired_metrics((_TRUSTED,)))), none)
        else:
            labels, wrong = suspected
            names = ", ".join(case.dataset.name_of(int(place)) for place in np.flatnonzero(wrong)[:10])
            noise = case.mean(torch.from_numpy(wrong.astype(float)), torch.arange(len(wrong)))
            if isinstance(noise, Measured) and names:
                noise = noise.model_copy(update={"which": names[:200]})
            found |= {"label_noise": noise, "imbalance": _imbalance(labels, len(case.dataset.classes))}
            pair, kept = case.pair(CLEAN), np.flatnonzero(~wrong)
            before, after = (side["score"][kept] for side in (pair.parent, pair.candidate))
            yield from paired_readings(_TRUSTED.name, before, after, case.dataset.slices, kept, case.alpha, pair.step)
        yield from (Reading(metric=name, slice=OVERALL, outcome=one) for name, one in found.items())

    def _facts(self, case: EvalContext) -> Outcomes:
        """What the index of the images and the records of data sets say."""
        counts = ("leaked", "shared_subjects", "undocumented")
        if case.data_facts is None:
            names = ("copies", "unusable", *counts, "licence_conflicts")
            return dict.fromkeys(names, Unmeasured(reason="the images are not indexed"))
        facts = case.data_facts()
        found: dict[str, Measured | Unmeasured] = {}
        for name, number in (("copies", facts.copies), ("unusable", facts.unusable)):
            ends = wilson(number, facts.images, case.alpha)
            found[name] = Measured(
                value=number / facts.images, low=float(ends.low), high=float(ends.high), images=facts.images
            )
        for name, count in zip(counts, (facts.leaked, facts.subjects, facts.undocumented), strict=True):
            found[name] = _counted(count, facts.images)
        review = reviewed(facts.licences, self.use)
        missing = isinstance(facts.undocumented, str) or facts.undocumented
        reasons = [f"{one} is not in the table of licences" for one in review.open]
        reasons += ["the licences of what made the model are not all recorded"] if missing else []
        known = review.conflicts or not reasons
        found["licence_conflicts"] = _counted(
            len(review.conflicts) if known else "; ".join(reasons), facts.images, "; ".join(review.conflicts)
        )
        return found

    def _represented(self, case: EvalContext) -> Outcomes:
        names = ("representation", "empty_groups", "missing_images")
        if not self.target:
            return dict.fromkeys(names, Unmeasured(reason="the check's parameter `target` states no shares of groups"))
        found = representation(self.target, case.dataset.slices, case.alpha)
        worst = max(found.cells, key=lambda cell: found.cells[cell][1])
        exact = (len(found.empty), found.missing)
        return {
            "representation": Measured(
                value=found.distance, low=found.low, high=found.high, images=found.images,
                which=f"{worst}: {found.cells[worst][1]} images are missing"[:200],
            ),
            **{name: Measured(value=number, low=number, high=number, images=found.images)
               for name, number in zip(names[1:], exact, strict=True)},
        }  # fmt: skip


def _suspected(case: EvalContext) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | str:
    """The labels, and which of them the parent contradicts; why that is not known."""
    if case.task.name != "classification":
        return "labels are examined for classification only"
    card = case.parent.card
    if card.architecture == PREDICTIONS and card.arguments.get("kind") == "answers":
        return "predictions only: answers without scores say nothing of confidence"
    said, labels = [], []
    with torch.inference_mode():
        for batch in case.batches(None):
            said.append(case.parent(batch.images).double().softmax(1).cpu().numpy())
            labels.append(batch.targets.cpu().numpy())
    known = np.concatenate(labels)
    return known, suspects(np.concatenate(said)[:, : len(case.dataset.classes)], known)


def _counted(count: int | str, images: int, which: str = "") -> Measured | Unmeasured:
    if isinstance(count, str):
        return Unmeasured(reason=count, images=images)
    return Measured(value=count, low=count, high=count, images=images, which=which[:200] or None)


def _imbalance(labels: NDArray[np.int64], classes: int) -> Measured | Unmeasured:
    counts = np.bincount(labels, minlength=classes)
    if counts.min() == 0:
        return Unmeasured(reason="a class has no image", images=len(labels))
    found = float(counts.max() / counts.min())
    return Measured(value=found, low=found, high=found, images=len(labels))
