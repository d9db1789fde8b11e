"""How much of the model does a thief get who trains a student on its answers?

A student of one fixed, small architecture is trained with a fixed number of steps on images of the data set, labelled
by the model's first answers alone, once for each number of queries; on images that no query used, the share of answers
on which it agrees with the model is the thief's gain.  The parent is tried in the same way: what compression changes is
the difference.  A student that learns from all logits shows what hiding them would save.

It is a curve for one cheap thief, a lower bound: pre-trained students and chosen queries get further.  Natural images
of the model's own domain are the best queries that such a thief can have.  Compare agreement with that of always
giving the most frequent answer.

Reference: F. Tramèr et al. (2016), "Stealing Machine Learning Models via Prediction APIs", arXiv:1609.02943; T.
Orekondy et al. (2019), "Knockoff Nets", arXiv:1812.02766.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.datasets import Batch
from auditsvc.evaluation import Check, EvalContext, Outputs
from auditsvc.records import OVERALL, Measured, Metric, Reading, TaskName, Unmeasured

LEAST = 20
"""Images on which agreement is counted."""
BATCH, RATE = 32, 3e-3

_WHO = {"candidate": "the candidate's first answers", "parent": "the parent's first answers",
        "scores": "all logits of the candidate"}  # fmt: skip
_MARK = Metric(
    id="mark_log10_p", kind="p_value", better="lower",
    title="p-value of finding the candidate's mark in the answers of the largest student (as a power of ten)",
)  # fmt: skip


class Extraction(Check):
    """Train students on answers and count on which images they agree with their teacher.

    Emits on ``overall`` for every number of queries ``Q``: ``agreement.candidate@Q`` and ``agreement.parent@Q`` (from
    first answers), ``agreement.scores@Q`` (from the candidate's logits); and ``mark_log10_p``: whether the owner's mark
    is found in the answers of the student with the most queries.
    """

    id = "extraction"
    version = 1
    tasks = frozenset[TaskName]({"classification"})
    topics = frozenset({"sec.extraction"})

    queries: Annotated[tuple[Annotated[int, Field(ge=10, le=1_000_000)], ...], Field(min_length=1)] = (50, 100, 200)
    steps: Annotated[int, Field(ge=10, le=100_000)] = 150
    images: Annotated[int, Field(ge=30)] = 500

    def metrics(self) -> tuple[Metric, ...]:
        """Three students for each number of queries, and the mark."""
        return (*(
            Metric(id=f"agreement.{who}@{queries}", kind="proportion", unit="%", better="lower",
                   title=f"answers that a student of {queries} queries shares, from {words}")
            for queries in self.queries for who, words in _WHO.items()
        ), _MARK)  # fmt: skip

    def cost(self) -> float:
        """Students are small: about one pass each."""
        return 3.0 * len(self.queries)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Ask both models once, then train the students."""
        drawn = case.gather(case.sample(self.images))
        asked = case.first_half(drawn.indices)
        with torch.no_grad():
            logits = {who: torch.cat([model(part) for part in torch.split(drawn.images, BATCH)])
                      for who, model in (("candidate", case.candidate), ("parent", case.parent))}  # fmt: skip
        last: Outputs | None = None
        for queries in self.queries:
            for who in _WHO:
                teacher = logits["parent" if who == "parent" else "candidate"]
                outcome: Measured | Unmeasured
                if int(asked.sum()) < queries or int((~asked).sum()) < LEAST:
                    reason = f"{queries} queries and {LEAST} other images are needed; there are {int(asked.sum())} and"
                    outcome = Unmeasured(reason=f"{reason} {int((~asked).sum())}", images=len(asked))
                else:
                    student = self._student(drawn, asked, teacher, queries, case.seed, scores=who == "scores")
                    last = student if who == "candidate" else last
                    outcome = _agreement(case, student, teacher, drawn, ~asked)
                yield Reading(metric=f"agreement.{who}@{queries}", slice=OVERALL, outcome=outcome)
        yield Reading(metric=_MARK.id, slice=OVERALL, outcome=_mark(case, last))

    def _student(
        self, drawn: Batch, asked: Tensor, teacher: Tensor, queries: int, seed: int, *, scores: bool
    ) -> Outputs:
        """Trained on the first ``queries`` of the asked images, in an order drawn from the seed."""
        draw, places = torch.Generator().manual_seed(seed), torch.nonzero(asked).flatten()
        places = places[torch.randperm(len(places), generator=draw)[:queries].to(places.device)]
        images, logits = drawn.images[places].clone(), teacher[places].clone()
        aims = logits.softmax(1) if scores else logits.argmax(1)
        with torch.random.fork_rng(), torch.inference_mode(mode=False), torch.enable_grad():
            torch.manual_seed(seed)
            student = _network(images.shape[1], logits.shape[1]).to(images.device)
            optimiser = torch.optim.Adam(student.parameters(), RATE)
            for _ in range(self.steps):
                chosen = torch.randint(queries, (BATCH,), generator=draw).to(images.device)
                optimiser.zero_grad()
                torch.autograd.backward(functional.cross_entropy(student(images[chosen]), aims[chosen]))
                optimiser.step()
        return student.eval()


def _network(channels: int, classes: int) -> nn.Module:
    """Three strided convolutions with batch normalisation, the mean and a linear head: any image size."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, classes))


def _agreement(
    case: EvalContext, student: Outputs, teacher: Tensor, drawn: Batch, held: Tensor
) -> Measured | Unmeasured:
    theirs = teacher[held].argmax(1)
    with torch.no_grad():
        ours = torch.cat([student(part).argmax(1) for part in torch.split(drawn.images[held], BATCH)])
    found = case.mean(ours == theirs, drawn.indices[held])
    usual = float((theirs == theirs.mode().values).float().mean())
    which = f"{100 * usual:.0f} % by the most frequent answer alone"
    return found.model_copy(update={"which": which}) if isinstance(found, Measured) else found


def _mark(case: EvalContext, student: Outputs | None) -> Measured | Unmeasured:
    if student is None or case.read_answers is None:
        return Unmeasured(reason="no student was trained" if student is None else "no queries of a mark are kept")
    with torch.no_grad():
        log10_p, images = case.read_answers(student)
    return Measured(value=log10_p, low=log10_p, high=log10_p, images=images)
