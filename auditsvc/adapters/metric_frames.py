"""The fairness readings as fairlearn's ``MetricFrame``: stored evidence, or answers, for those who work with it."""

from __future__ import annotations

import numpy as np
from fairlearn.metrics import MetricFrame, count, false_positive_rate, selection_rate, true_positive_rate

from auditsvc.datasets import SliceColumn
from auditsvc.errors import InvalidInput
from auditsvc.evaluation import Predictions
from auditsvc.records import Evidence, Measured


def metric_frame(answers: Predictions, column: SliceColumn, positive: int) -> MetricFrame:
    """Accuracy, selection rate, true and false positive rate and count of each group of one column.

    ``answers`` are one model's; ``positive`` is the positive class (one versus rest).  Images in no group of
    the column are left out.
    """
    inside = np.flatnonzero(column.codes >= 0)
    said, is_it = answers["answer"][inside] == positive, answers["target"][inside] == positive
    right = {"accuracy": lambda truth, answer: float(np.mean(np.asarray(truth) == np.asarray(answer)))}
    rates = {"selection": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate, "count": count}
    groups = np.array(column.labels, object)[column.codes[inside]]
    return MetricFrame(
        metrics=right | rates, y_true=is_it.astype(int), y_pred=said.astype(int),
        sensitive_features={column.column: groups},
    )  # fmt: skip


def frame_of(evidence: Evidence, column: str, *, parent: bool = False) -> MetricFrame:
    """The groups of one column from stored evidence of the check ``fairness``, for candidate or parent.

    The rates and what they are shares of are counts; the frame is made of these counts as weighted rows, so it gives
    fairlearn's numbers, differences and ratios without the images.

    Raises:
        InvalidInput: evidence of another check, or of more than two classes, or a column that it does not have.
    """
    rates_of_slices = [one.slice for one in evidence.readings if one.metric == "selection_rate"]
    names = [name for name in rates_of_slices if name.startswith(f"{column}=")]
    rows = [row for name in names for row in _counted(evidence, name, "parent_" if parent else "")]
    if evidence.key.check != "fairness" or not rows:
        raise InvalidInput(f"there is no rate of groups of {column!r} in this evidence of {evidence.key.check}")
    groups, truth, answer, weights = zip(*rows, strict=True)
    rates = {"selection": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate}
    weighted = {"sample_weight": np.array(weights, float)}
    return MetricFrame(
        metrics=rates, y_true=np.array(truth), y_pred=np.array(answer), sensitive_features={column: np.array(groups)},
        sample_params=dict.fromkeys(rates, weighted),
    )  # fmt: skip


def _counted(evidence: Evidence, name: str, prefix: str) -> list[tuple[str, int, int, int]]:
    """One group as rows of group, truth, answer and how many; nothing where it was not measured."""
    rows = []
    for truth, metric in ((1, "tpr"), (0, "fpr")):
        found = evidence.reading(prefix + metric, name)
        if isinstance(found, Measured):
            said = round(found.value * found.images)
            rows += [(name.partition("=")[2], truth, 1, said), (name.partition("=")[2], truth, 0, found.images - said)]
    return [row for row in rows if row[3]]
