"""Were some of the training images poisoned?

Needs a data set of which one slice trained the parent.  Three looks, none of which retrains anything:

* In each class the parent's features are split in two (activation clustering), along their strongest directions, whose
  first is what spectral signatures rank by.  The smaller part of the best separated class are the *suspects*.
* What the suspects' images share, their mean less that of the other classes' images, is added to images of other
  classes.  A trigger moves them to the suspects' class; what the rest of the class shares is the comparison, because a
  natural subgroup does no better than it.
* Labels that the parent contradicts with more confidence than it has on average in the class that it names (confident
  learning).  A parent that memorised wrong labels contradicts few of them: a lower bound.

Whether the parent would be another one without the suspects is not tried, because that needs its training.

Reference: B. Chen et al. (2018), "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering",
arXiv:1811.03728; B. Tran et al. (2018), "Spectral Signatures in Backdoor Attacks", arXiv:1811.00636; C. Northcutt et
al. (2021), "Confident Learning", arXiv:1911.00068.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from auditsvc.datasets import Batch
from auditsvc.errors import Refused
from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.attacks.trigger import CHUNK, answers
from auditsvc.models import Model
from auditsvc.records import OVERALL, Measured, Metric, Reading, TaskName, Unmeasured

LEAST = 40
"""Training images that a class needs to be split."""
DIRECTIONS, ROUNDS = 10, 25
"""Principal directions that are kept, and steps of the clustering."""
SMALLEST = 3
"""Images that are suspects at the least."""
PIXELS = (0.04, 1.0)
"""Shares of the image on which what they share is tried: a patch, and all of it; the larger excess counts."""

_METRICS = (
    Metric(id="suspects", kind="proportion", unit="%", better="lower",
           title="training images in the smaller part of the class whose features separate best"),
    Metric(id="separation", kind="quantity", better="lower",
           title="silhouette of that split (1: two far apart groups, 0: one group)"),
    Metric(id="success.suspects", kind="proportion", unit="%", better="lower",
           title="images of other classes that what the suspects share moves to their class in the parent"),
    Metric(id="excess.suspects", kind="difference", unit="points", better="lower", role="change",
           title="images that it moves beyond what the rest of the class shares"),
    Metric(id="mislabelled", kind="proportion", unit="%", better="lower",
           title="training images whose label the parent contradicts with confidence"),
)  # fmt: skip


@dataclass(frozen=True)
class _Split:
    """The best separated class: its number, the silhouette, and the places of both parts, the smaller first."""

    number: int
    separation: float
    suspects: Tensor
    rest: Tensor


class Poisoning(Check):
    """Scan the training images.

    Emits on ``overall``: ``suspects``, ``separation``, ``success.suspects``, ``excess.suspects`` and ``mislabelled``.
    ``training`` names the slice of the images that trained the parent.
    """

    id = "poisoning"
    version = 1
    tasks = frozenset[TaskName]({"classification"})
    topics = frozenset({"sec.poisoning"})

    training: Annotated[str, Field(min_length=3)] = "membership=member"
    images: Annotated[int, Field(ge=2 * LEAST)] = 5000

    def metrics(self) -> tuple[Metric, ...]:
        """Five."""
        return _METRICS

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Split, try what the suspects share, count contradicted labels."""
        found = self._found(case)
        if isinstance(found, str):
            found = dict.fromkeys((one.id for one in _METRICS), Unmeasured(reason=found))
        yield from (Reading(metric=one.id, slice=OVERALL, outcome=found[one.id]) for one in _METRICS)

    def _found(self, case: EvalContext) -> dict[str, Measured | Unmeasured] | str:
        column = next((one for one in case.dataset.slices.columns if self.training in one.names), None)
        if column is None:
            return f"no training images were given: the data set has no slice {self.training}"
        taught = case.gather(np.flatnonzero(column.codes == column.names.index(self.training))[: self.images])
        try:
            features, logits = _seen(case.parent, taught.images)
        except Refused as error:
            return f"the parent's features can't be read: {error}"
        labels = taught.targets
        splits = [_split(features, labels, number) for number in range(len(case.dataset.classes))]
        best = max((one for one in splits if one), key=lambda one: one.separation, default=None)
        wrong = case.mean(_contradicted(logits, labels).double(), taught.indices)
        if best is None:
            reason = f"no class has {LEAST} training images with features that differ"
            none = Unmeasured(reason=reason, images=len(labels))
            return dict.fromkeys((one.id for one in _METRICS), none) | {"mislabelled": wrong}
        return {**_tried(case, best, taught), "mislabelled": wrong}


def _seen(parent: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs of the last linear layer ``(N, D)`` and the logits ``(N, classes)``.

    Raises:
        Refused: a file that can't be converted to layers, or a network without a linear layer.
    """
    layers = parent.layers
    heads = [one for one in layers.module.modules() if isinstance(one, nn.Linear)]
    if not heads:
        raise Refused("the network has no linear layer")
    caught: list[Tensor] = []
    hook = heads[-1].register_forward_pre_hook(lambda _layer, inputs: caught.append(inputs[0].flatten(1)))
    try:
        with torch.no_grad():
            logits = torch.cat([layers(part) for part in torch.split(images, CHUNK)])
    finally:
        hook.remove()
    return torch.cat(caught).double(), logits.double()


def _split(features: Tensor, labels: Tensor, number: int) -> _Split | None:
    """Two means in the principal directions of one class, started from the ends of the first."""
    places = torch.nonzero(labels == number).flatten()
    if len(places) < LEAST:
        return None
    off = features[places] - features[places].mean(0)
    scores, sizes, _ = torch.linalg.svd(off, full_matrices=False)
    points = (scores * sizes)[:, :DIRECTIONS]
    order = points[:, 0].argsort(stable=True)
    centres = torch.stack((points[order[: len(order) // 10]].mean(0), points[order[-(len(order) // 10) :]].mean(0)))
    for _ in range(ROUNDS):
        second = torch.cdist(points, centres).argmin(1).bool()
        if min(int(second.sum()), int((~second).sum())) < SMALLEST:
            return None
        centres = torch.stack((points[~second].mean(0), points[second].mean(0)))
    small = second if int(second.sum()) <= len(second) // 2 else ~second
    return _Split(number, _silhouette(points, small), places[small], places[~small])


def _silhouette(points: Tensor, small: Tensor) -> float:
    """The mean over images of how much nearer the own part is than the other one, -1..1."""
    apart = torch.cdist(points, points)
    inside = small[:, None] == small[None]
    own = (apart * inside).sum(1) / (inside.sum(1) - 1)
    other = (apart * ~inside).sum(1) / (~inside).sum(1)
    return float(((other - own) / torch.maximum(own, other).clamp(min=1e-12)).mean())


def _contradicted(logits: Tensor, labels: Tensor) -> Tensor:
    """``(N,)`` bool: the likeliest class is another than the label, and surer than its own images are on average."""
    sure = logits.softmax(1).round(decimals=6)
    means = torch.stack([sure[labels == number, number].mean() for number in range(sure.shape[1])]).nan_to_num(1.0)
    best = sure.argmax(1)
    return (best != labels) & (sure.gather(1, best[:, None])[:, 0] >= means[best])


def _tried(case: EvalContext, split: _Split, taught: Batch) -> dict[str, Measured | Unmeasured]:
    """What suspects and rest share, on images of other classes that the parent calls otherwise."""
    labels, name = taught.targets, case.dataset.classes[split.number][:60]
    others = torch.nonzero(labels != split.number).flatten()
    tried = taught.images[others]
    others = others[answers(case.parent, tried) != split.number] if len(others) else others
    tried, hits = taught.images[others], torch.zeros((2, 0), dtype=torch.double)
    for share in PIXELS if len(others) else ():
        found = torch.stack([
            answers(case.parent, _with(tried, taught.images[part].mean(0), share)) == split.number
            for part in (split.suspects, split.rest)
        ]).double()  # fmt: skip
        hits = max(hits, found, key=lambda one: float((one[0] - one[1]).mean()) if one.numel() else -2.0)
    counted = torch.zeros(len(labels), dtype=torch.double, device=labels.device)
    counted[split.suspects] = 1.0
    which = f"{name}: {len(split.suspects)} of {len(split.suspects) + len(split.rest)} images"
    measures = {
        "suspects": case.mean(counted, taught.indices),
        "success.suspects": case.mean(hits[0], taught.indices[others]),
        "excess.suspects": case.mean(hits[0] - hits[1], taught.indices[others]),
        "separation": Measured(
            value=split.separation, low=split.separation, high=split.separation, images=len(labels), which=name
        ),
    }
    return {
        key: one.model_copy(update={"which": which}) if isinstance(one, Measured) else one
        for key, one in measures.items()
    }


def _with(images: Tensor, mean: Tensor, share: float) -> Tensor:
    """The images with the strongest of what ``mean`` has more or less than they have on average, on so many pixels."""
    shared = mean - images.mean(0)
    strength = shared.abs().sum(0)
    limit = strength.flatten().kthvalue(max(1, round((1 - share) * strength.numel()))).values
    return (images + shared * (strength >= limit)).clamp(0, 1)
