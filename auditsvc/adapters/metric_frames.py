"""The fairness readings as fairlearn's ``MetricFrame``, for those who work with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from auditsvc.errors import Unavailable
from auditsvc.measuring import Answers, SliceColumn

if TYPE_CHECKING:
    from fairlearn.metrics import MetricFrame


def metric_frame(answers: Answers, column: SliceColumn, positive: int) -> MetricFrame:
    """Accuracy, selection rate, true and false positive rate and count of each group of one column.

    ``answers`` are one model's; ``positive`` is the class that stands against the rest.  Images in no group of
    the column are left out.

    Raises:
        Unavailable: fairlearn is not installed.
    """
    try:
        from fairlearn.metrics import MetricFrame, count, false_positive_rate, selection_rate, true_positive_rate
    except ImportError as error:
        raise Unavailable("fairlearn is not installed: pip install fairlearn") from error
    inside = np.flatnonzero(column.codes >= 0)
    said, is_it = answers["answer"][inside] == positive, answers["target"][inside] == positive
    right = {"accuracy": lambda truth, told: float(np.mean(np.asarray(truth) == np.asarray(told)))}
    rates = {"selection": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate, "count": count}
    groups = np.array(column.labels, object)[column.codes[inside]]
    return MetricFrame(
        metrics=right | rates, y_true=is_it.astype(int), y_pred=said.astype(int),
        sensitive_features={column.column: groups},
    )  # fmt: skip
