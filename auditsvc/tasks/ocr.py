"""Text recognition (OCR): a line of text in each image.  The score is 1 - character error rate (CER), at least 0.

Models use connectionist temporal classification (CTC): at each step one of the characters or the blank.  Decoding is
greedy (best path), as such models are deployed.

Reference: A. Graves et al. (2006), "Connectionist Temporal Classification", doi:10.1145/1143844.1143891.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.task import ImageScores, Task, digest_of_rows, no_class

PADDING = -1
"""Pads a target text."""

SHOWN = 32
"""Characters of an answer that are stored for display; the score uses all of them."""

EDITS, CHARACTERS = 0, 1
"""The counts: insertions, deletions and substitutions; characters of the target.  Then the answer's characters."""


class Ocr(Task):
    """Outputs are logits ``(N, T, C + 1)``, the last for the blank; targets character numbers ``(N, L)``, -1 pads."""

    name = "ocr"
    target_kind = "text"

    @classmethod
    def class_faults(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Single characters."""
        return ("in ocr the classes are single characters",) if any(len(name) != 1 for name in classes) else ()

    @property
    def tally_size(self) -> int:
        """Edits, characters, and the first characters of the answer."""
        return 2 + SHOWN

    def score_batch(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """1 - CER, its edits and characters, and the answer."""
        read = self.read(outputs)
        edits, length = levenshtein(read, targets), (targets >= 0).sum(dim=1)
        score = torch.where(length > 0, 1 - edits / length.clamp_min(1), (edits == 0).float()).clamp_min(0)
        score = torch.where(torch.isfinite(outputs).flatten(1).all(dim=1), score, 0.0)
        shown = functional.pad(read[:, :SHOWN] + 1, (0, max(0, SHOWN - read.shape[1])))
        tally = torch.cat((edits[:, None], length[:, None], shown), dim=1)
        return ImageScores(score.float(), digest_of_rows(read + 1), no_class(targets), tally)

    def read(self, outputs: Tensor) -> Tensor:
        """``(N, T)``: greedy CTC decoding: the best path without repeats and blanks, padded with -1."""
        best, blank = outputs.argmax(dim=2), outputs.shape[2] - 1
        before = functional.pad(best[:, :-1], (1, 0), value=blank)
        emitted = (best != blank) & (best != before)
        order = (~emitted).long().argsort(dim=1, stable=True)
        return torch.where(emitted, best, PADDING).gather(1, order)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """CTC loss: the negative log-likelihood of the target over all its paths, in nats."""
        logs = outputs.log_softmax(2).transpose(0, 1)
        lengths = torch.full((len(outputs),), outputs.shape[1], dtype=torch.int64)
        target_lengths = (targets >= 0).sum(dim=1).cpu()
        blank = outputs.shape[2] - 1
        return functional.ctc_loss(
            logs, targets.clamp_min(0), lengths, target_lengths, blank=blank, reduction="none", zero_infinity=True
        )

    def as_targets(self, outputs: Tensor) -> Tensor:
        """``(N, T)``: the decoded text."""
        return self.read(outputs)

    def distillation_loss(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The mean Kullback-Leibler divergence of the softened steps, times the squared temperature."""
        student, softened = (outputs / temperature).log_softmax(2), (teacher / temperature).log_softmax(2)
        each = functional.kl_div(student, softened, reduction="none", log_target=True).sum(dim=2)
        return each.mean() * temperature**2

    def describe_answer(self, answer: Any) -> str:
        """The decoded text."""
        return self._text(answer["tally"][2:].astype(int) - 1) or "(nothing)"

    def describe_target(self, target: Tensor) -> str:
        """The text of the target."""
        return self._text(target.tolist()) or "(nothing)"

    def _text(self, numbers: Any) -> str:
        return "".join(self.classes[number] for number in numbers if 0 <= number < len(self.classes))


def levenshtein(left: Tensor, right: Tensor) -> Tensor:
    """Levenshtein distance, ``(N,)`` int64, between the rows of ``(N, A)`` and of ``(N, B)`` integers.

    Negative numbers pad.  Computed one row of the dynamic-programming table at a time for all pairs: within a row each
    cell is the least of the cells before it plus their distance, which is a running minimum.

    Reference: V. I. Levenshtein (1966), Soviet Physics Doklady 10 (8), 707-710.
    """
    places = torch.arange(right.shape[1] + 1, device=left.device)
    row = places.expand(len(left), -1)
    for step in range(left.shape[1]):
        own = left[:, step : step + 1]
        swapped = torch.minimum(row[:, 1:] + 1, row[:, :-1] + (own != right).long())
        following = torch.cat((row[:, :1] + 1, swapped), dim=1) - places
        row = torch.where(own >= 0, following.cummin(dim=1).values + places, row)
    return row.gather(1, (right >= 0).sum(dim=1, keepdim=True))[:, 0]
