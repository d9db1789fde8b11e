"""Mean IoU of a segmentation model, pooled over the corpus, for every group and every class.

The score of an image is its own mean IoU; here pixels are pooled over the corpus first, as in publications: a rare
class counts as much as a common one, and images in which it is small count little.

Reference: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from auditsvc.evaluation.metrics.ratio import Formula, Numbers, RatioCheck, share
from auditsvc.records import Metric
from auditsvc.tasks.segmentation import ACTUAL, INTERSECTION, PREDICTED

MEAN_IOU = Metric(id="miou", kind="ratio", unit="%", better="higher", title="mean IoU, pooled over all images")


class SemanticSegmentation(RatioCheck):
    """Compare ``iou``, the mean over classes of pooled intersection over union, for every group and every class.

    Emits the metrics of ``RatioCheck``; the worst class is that of IoU.
    """

    id = "semantic_segmentation"
    version = 1
    tasks = frozenset({"segmentation"})
    topics = frozenset({"perf.accuracy"})

    def measures(self) -> Mapping[Metric, Formula]:
        """Mean IoU."""
        return {MEAN_IOU: self._mean}

    def by_class(self, sums: Numbers) -> Numbers:
        """The IoU of each class."""
        parts = sums.reshape(len(sums), -1, 3)
        return share(parts[..., INTERSECTION], parts[..., PREDICTED] + parts[..., ACTUAL] - parts[..., INTERSECTION])

    def _mean(self, sums: Numbers) -> Numbers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any pixel is NaN, as it should be
            return np.asarray(np.nanmean(self.by_class(sums), axis=1))
