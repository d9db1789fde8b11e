"""Recall and precision of a detector, pooled over the corpus, for every group and every class.

The score of an image weighs images; here every object weighs the same.  An object is found if a detection of its
class has an IoU of at least one half with it at the model's own operating point.

Reference: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

from collections.abc import Mapping

from auditsvc.evaluation.metrics.ratio import Formula, Numbers, RatioCheck, share
from auditsvc.records import Metric
from auditsvc.tasks.detection import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE

RECALL = Metric(id="recall", kind="ratio", unit="%", better="higher", title="recall of objects")
PRECISION = Metric(id="precision", kind="ratio", unit="%", better="higher", title="precision of detections")


class ObjectDetection(RatioCheck):
    """Compare ``recall`` and ``precision`` of objects, for every group, and the recall of every class.

    Emits the metrics of ``RatioCheck``; the worst class is that of recall.
    """

    id = "object_detection"
    version = 1
    needs = "scores"
    tasks = frozenset({"detection", "tracking"})
    topics = frozenset({"perf.accuracy"})

    def measures(self) -> Mapping[Metric, Formula]:
        """Recall and precision over all classes."""
        return {RECALL: _recall, PRECISION: _precision}

    def by_class(self, sums: Numbers) -> Numbers:
        """The recall of each class."""
        parts = sums.reshape(len(sums), -1, 3)
        return share(parts[..., TRUE_POSITIVE], parts[..., TRUE_POSITIVE] + parts[..., FALSE_NEGATIVE])


def _recall(sums: Numbers) -> Numbers:
    parts = sums.reshape(len(sums), -1, 3).sum(axis=1)
    return share(parts[:, TRUE_POSITIVE], parts[:, TRUE_POSITIVE] + parts[:, FALSE_NEGATIVE])


def _precision(sums: Numbers) -> Numbers:
    parts = sums.reshape(len(sums), -1, 3).sum(axis=1)
    return share(parts[:, TRUE_POSITIVE], parts[:, TRUE_POSITIVE] + parts[:, FALSE_POSITIVE])
