"""What a task says of a batch of answers: the common score, and what the task's own measures are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageScores:
    """Each image's answer, judged.

    ``score`` (N,) float32 in 0..1; ``answer`` (N,) int64, equal where two answers are the same; ``target`` (N,)
    int64, the class of an image that has one, else 0; ``tally`` (N, K) int64, what is counted for each image, so that
    measures of a whole corpus (recall, mean IoU, character error rate) are sums of it.
    """

    score: Tensor
    answer: Tensor
    target: Tensor
    tally: Tensor


def digest_of_rows(rows: Tensor) -> Tensor:
    """``(N, K)`` whole numbers to ``(N,)`` int64: equal rows give one number, others almost surely another.

    Rows that differ in trailing zeros are the same, so that a batch's padding does not matter.
    """
    places = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=torch.int64)
    factors = (places * 0x9E3779B1) % 0x7FFFFFFF
    mixed = (rows.long() * 0x5851F42D + rows.long() ** 2 * 0x2545F491) % 0x7FFFFFFF
    return (mixed * factors % 0x3FFFFFFFFFFF).sum(dim=1)


def no_class(targets: Tensor) -> Tensor:
    """The ``target`` of a task whose images have no class of their own."""
    return torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
