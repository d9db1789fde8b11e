"""The numbers of an audit, computed again with libraries alone: nothing of this package is imported here.

ONNX Runtime runs the files, fairlearn counts groups, statsmodels gives intervals, pycocotools average precision,
TrackEval tracks, jiwer character errors; attacks and character decoding are a few plain lines of torch and numpy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


def run_onnx(file: bytes, images: Array, outputs: Sequence[str]) -> list[Array]:
    """The outputs of an ONNX file, an image at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    answers = [session.run(list(outputs), {name: image[None]}) for image in images]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def share(right: Array, alpha: float) -> tuple[float, float, float]:
    """A proportion and its one-sided Wilson ends at ``alpha``, by statsmodels."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(int(right.sum()), len(right), 2 * alpha, method="wilson")
    return float(right.mean()), float(low), float(high)


def group_metrics(truth: Array, said: Array, groups: Array, positive: int) -> dict[str, float]:
    """Differences and the ratio between groups, by fairlearn."""
    from fairlearn.metrics import (
        MetricFrame,
        demographic_parity_ratio,
        equalized_odds_difference,
        false_positive_rate,
        selection_rate,
        true_positive_rate,
    )

    is_it, said_it = truth == positive, said == positive
    given = {"y_true": is_it, "y_pred": said_it, "sensitive_features": groups}
    rates = {"selection": selection_rate, "tpr": true_positive_rate, "fpr": false_positive_rate}
    found = MetricFrame(metrics=rates, **given).difference()
    return {
        "demographic_parity_difference": float(found["selection"]),
        "tpr_difference": float(found["tpr"]),
        "fpr_difference": float(found["fpr"]),
        "equalized_odds_difference": float(equalized_odds_difference(**given)),
        "demographic_parity_ratio": float(demographic_parity_ratio(**given)),
    }


def read_ctc(logits: Array, characters: str) -> list[str]:
    """Greedy decoding of ``(N, T, C)``: repeats, then blanks (the last class), are left out."""
    texts = []
    for steps in logits.argmax(2):
        kept = [step for place, step in enumerate(steps) if place == 0 or step != steps[place - 1]]
        texts.append("".join(characters[step] for step in kept if step < len(characters)))
    return texts


def character_errors(truth: Sequence[str], said: Sequence[str]) -> tuple[float, float]:
    """Character error rate over all texts (by jiwer) and the share of exact ones, after Unicode NFC."""
    import jiwer

    one, other = ([unicodedata.normalize("NFC", text) for text in texts] for texts in (truth, said))
    return float(jiwer.cer(one, other)), float(np.mean([left == right for left, right in zip(one, other, strict=True)]))


def mean_iou(truth: Array, said: Array, classes: int, void: int) -> float:
    """IoU pooled over all pixels that are not void, the mean over the classes that are there or were said."""
    counted = truth != void
    found = []
    for kind in range(classes):
        there, told = (truth == kind) & counted, (said == kind) & counted
        union = int((there | told).sum())
        if union:
            found.append(int((there & told).sum()) / union)
    return float(np.mean(found))


def coco_precision(found: Sequence[tuple[int, int, Array, float]], there: Sequence[tuple[int, int, Array, bool]],
                   images: int, classes: int) -> tuple[float, float]:  # fmt: skip
    """AP and AP at half overlap by pycocotools.

    ``found``: image, class, corners and confidence of each answer; ``there``: image, class, corners and whether it is
    a crowd of each object.
    """
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sides(corners: Array) -> list[float]:
        left, top, right, bottom = (1000 * float(one) for one in corners)
        return [left, top, right - left, bottom - top]

    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": number, "width": 1000, "height": 1000} for number in range(images)],
        "categories": [{"id": kind, "name": str(kind)} for kind in range(classes)],
        "annotations": [
            {"id": number + 1, "image_id": image, "category_id": kind, "bbox": sides(box), "iscrowd": int(crowd),
             "area": sides(box)[2] * sides(box)[3]}
            for number, (image, kind, box, crowd) in enumerate(there)
        ],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        answers = truth.loadRes([
            {"image_id": image, "category_id": kind, "bbox": sides(box), "score": sure}
            for image, kind, box, sure in found
        ])  # fmt: skip
        judge = COCOeval(truth, answers, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def tracking(there: Sequence[tuple[Array, Array]], found: Sequence[tuple[Array, Array]]) -> tuple[float, float, float]:
    """HOTA and association accuracy (means over all overlaps) and IDF1 by TrackEval.

    ``there`` and ``found`` have the names and the corners of each frame's boxes.
    """
    from trackeval.metrics import HOTA, Identity

    real, given = (
        {name: number for number, name in enumerate(sorted({int(one) for names, _ in frames for one in names}))}
        for frames in (there, found)
    )
    data = {
        "num_gt_dets": sum(len(names) for names, _ in there),
        "num_tracker_dets": sum(len(names) for names, _ in found),
        "num_gt_ids": len(real),
        "num_tracker_ids": len(given),
        "gt_ids": [np.array([real[int(name)] for name in names], int) for names, _ in there],
        "tracker_ids": [np.array([given[int(name)] for name in names], int) for names, _ in found],
        "similarity_scores": [
            np.array([[_overlap(box, other) for other in boxes] for box in known]).reshape(len(known), len(boxes))
            for (_, known), (_, boxes) in zip(there, found, strict=True)
        ],
    }
    scores, names = HOTA().eval_sequence(data), Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return float(np.mean(scores["HOTA"])), float(np.mean(scores["AssA"])), float(names["IDF1"])


def suppressed(boxes: Array, scores: Array, overlap: float, most: int) -> list[int]:
    """Non-maximum suppression of one class, the surest first and ``most`` of them, as plain loops."""
    kept: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(kept) < most and all(_overlap(boxes[place], boxes[other]) <= overlap for other in kept):
            kept.append(int(place))
    return kept


def _overlap(one: Array, other: Array) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    whole = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return float(shared / whole) if whole > 0 else 0.0


def margin_attack(smooth: Callable[[Tensor], Tensor], judge: Callable[[Tensor], Tensor], images: Tensor,
                  targets: Tensor, radius: float, steps: int, starts: int = 1) -> float:  # fmt: skip
    """The share of images that ``judge`` gets right on all steps of a PGD that widens the margin of ``smooth``."""
    standing = judge(images).argmax(1) == targets
    for start in range(starts):
        generator = torch.Generator().manual_seed(start)
        moved = images + radius * (2 * torch.rand(images.shape, generator=generator) - 1) * (start > 0)
        for step in range(steps):
            moved = moved.detach().requires_grad_(True)
            logits = smooth(moved)
            rival = logits.scatter(1, targets[:, None], float("-inf")).amax(1)
            (slope,) = torch.autograd.grad((rival - logits.gather(1, targets[:, None])[:, 0]).sum(), moved)
            size = 2 * radius * (1 - step / steps) / 4
            moved = (moved.detach() + size * slope.sign()).clamp(images - radius, images + radius).clamp(0, 1)
            with torch.no_grad():
                standing &= judge(moved).argmax(1) == targets
    return float(standing.double().mean())


def transferred(source: Callable[[Tensor], Tensor], victim: Callable[[Tensor], Tensor], images: Tensor,
                targets: Tensor, radius: float, steps: int = 20) -> float:  # fmt: skip
    """The share of images that the victim gets right after all steps of PGD on the source alone."""
    moved = images.clone()
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(source(moved), targets), moved)
        moved = (moved.detach() + radius / 4 * slope.sign()).clamp(images - radius, images + radius).clamp(0, 1)
    with torch.no_grad():
        return float((victim(moved).argmax(1) == targets).double().mean())
