"""Multi-object tracking: HOTA, association accuracy (AssA) and IDF1 of candidate and parent.

A detector that misses single frames costs little per frame and much on a track.  Both models feed the same simple
tracker (``evaluation.metrics.hota``), and the metrics are compared over the corpus and for each group, resampled by
sequence: with few sequences the intervals are wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.evaluation import EvalContext, Pair
from auditsvc.evaluation.metrics.hota import COUNTED, Frame, association, counted, hota, identity, linked_tracks
from auditsvc.evaluation.metrics.ratio import Formula, Numbers, RatioCheck
from auditsvc.models import Model
from auditsvc.records import Metric
from auditsvc.tasks.boxes import match_detections, select_detections

HOTA = Metric(id="hota", kind="ratio", better="higher", title="HOTA")
ASSOCIATION = Metric(id="assa", kind="ratio", better="higher", title="association accuracy (AssA)")
IDENTITY = Metric(id="idf1", kind="ratio", better="higher", title="identification F1 (IDF1)")


class ObjectTracking(RatioCheck):
    """Compare ``hota``, ``association`` (AssA) and ``identity`` (IDF1); emits the metrics of ``RatioCheck``.

    A box continues the track that it overlaps by at least ``joins``; a track ends after ``patience`` empty frames.
    """

    id = "object_tracking"
    version = 1
    tasks = frozenset({"tracking"})
    topics = frozenset({"perf.accuracy"})

    joins: Annotated[float, Field(gt=0, lt=1)] = 0.3
    patience: Annotated[int, Field(ge=0, le=100)] = 1

    def measures(self) -> Mapping[Metric, Formula]:
        """Three, over all classes."""
        return {HOTA: hota, ASSOCIATION: association, IDENTITY: identity}

    def counted(self, case: EvalContext, pair: Pair) -> tuple[Numbers, Numbers]:  # noqa: ARG002 - answers keep no boxes
        """One more pass of both models, for the boxes; then sequence by sequence."""
        clusters = case.dataset.slices.clusters
        if clusters is None:
            raise InvalidInput("tracks need sequences: name their column as the data set's cluster")
        objects: list[Frame] = []
        answers: tuple[list[Frame], list[Frame]] = ([], [])
        with torch.inference_mode():
            for batch in case.batches(None):
                objects += _objects(batch.targets)
                for model, frames in zip((case.candidate, case.parent), answers, strict=True):
                    frames += _answers(model, batch.images, batch.targets)
        found = np.zeros((2, len(objects), COUNTED))
        for sequence in np.unique(clusters):
            inside = np.flatnonzero(clusters == sequence)
            there = [objects[number] for number in inside]
            for counts, frames in zip(found, answers, strict=True):
                tracks = linked_tracks([frames[number] for number in inside], self.joins, self.patience)
                counts[inside] = counted(there, tracks)
        return found[0], found[1]


def _objects(targets: Tensor) -> Iterator[Frame]:
    for target in targets.double().cpu().numpy():
        real = target[target[:, 0] >= 0]
        yield Frame(real[:, 1:5], real[:, 0].astype(np.int64), real[:, 5].astype(np.int64))


def _answers(model: Model, images: Tensor, targets: Tensor) -> Iterator[Frame]:
    """The detections that count; those in ignored regions are left out, so that they make no false track."""
    found = select_detections(model(images))
    _, counts = match_detections(found, targets[..., :5])
    for kept, boxes, classes in zip(counts.cpu(), found.boxes.cpu(), found.classes.cpu(), strict=True):
        yield Frame.of(boxes[kept].double().numpy(), classes[kept].numpy())
