"""A line of text in each image.  The score is 1 less the character error rate, at least 0.

Models answer by connectionist temporal classification: at each step one of the characters or nothing.  Only the
likeliest path is read, as such models are deployed.

Reference: A. Graves et al. (2006), "Connectionist Temporal Classification", doi:10.1145/1143844.1143891.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.scoring import ImageScores, digest_of_rows, no_class

NONE = -1
"""Pads a target text."""

SHOWN = 32
"""Characters of an answer that are kept for people; all of them are counted."""

EDITS, CHARACTERS = 0, 1
"""What is tallied: insertions, deletions and substitutions; characters of the target.  Then the answer itself."""


@dataclass(frozen=True)
class Ocr:
    """Outputs are logits ``(N, T, C + 1)``, the last for nothing; targets character numbers ``(N, L)``, -1 pads."""

    classes: tuple[str, ...]
    name = "ocr"
    step = 0.0

    @property
    def tallied(self) -> int:
        """Edits, characters, and the beginning of what was read."""
        return 2 + SHOWN

    def judged(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """1 less the error rate, the edits behind it, and the text."""
        read = self.read(outputs)
        edits, length = distance(read, targets), (targets >= 0).sum(dim=1)
        score = torch.where(length > 0, 1 - edits / length.clamp_min(1), (edits == 0).float()).clamp_min(0)
        score = torch.where(torch.isfinite(outputs).flatten(1).all(dim=1), score, 0.0)
        shown = functional.pad(read[:, :SHOWN] + 1, (0, max(0, SHOWN - read.shape[1])))
        tally = torch.cat((edits[:, None], length[:, None], shown), dim=1)
        return ImageScores(score.float(), digest_of_rows(read + 1), no_class(targets), tally)

    def read(self, outputs: Tensor) -> Tensor:
        """``(N, T)``: the characters of the likeliest path, repeats and nothings taken out, -1 behind them."""
        best, nothing = outputs.argmax(dim=2), outputs.shape[2] - 1
        before = functional.pad(best[:, :-1], (1, 0), value=nothing)
        kept = (best != nothing) & (best != before)
        order = (~kept).long().argsort(dim=1, stable=True)
        return torch.where(kept, best, NONE).gather(1, order)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 less the character error rate of each image."""
        return self.judged(outputs, targets).score

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of the target over all its paths, in nats."""
        logs = outputs.log_softmax(2).transpose(0, 1)
        lengths = torch.full((len(outputs),), outputs.shape[1], dtype=torch.int64)
        wanted = (targets >= 0).sum(dim=1).cpu()
        nothing = outputs.shape[2] - 1
        return functional.ctc_loss(
            logs, targets.clamp_min(0), lengths, wanted, blank=nothing, reduction="none", zero_infinity=True
        )

    def answered(self, outputs: Tensor) -> Tensor:
        """``(N, T)``: the text that is read."""
        return self.read(outputs)

    def imitation(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """The divergence between both models' softened answers at each step, times the temperature squared."""
        found, taught = (outputs / temperature).log_softmax(2), (wanted / temperature).log_softmax(2)
        each = functional.kl_div(found, taught, reduction="none", log_target=True).sum(dim=2)
        return each.mean() * temperature**2

    def words(self, answer: Any) -> str:
        """The text that was read."""
        return self._text(answer["tally"][2:].astype(int) - 1) or "(nothing)"

    def target_words(self, target: Tensor) -> str:
        """The text that is there."""
        return self._text(target.tolist()) or "(nothing)"

    def _text(self, numbers: Any) -> str:
        return "".join(self.classes[number] for number in numbers if 0 <= number < len(self.classes))


def distance(left: Tensor, right: Tensor) -> Tensor:
    """``(N,)`` int64: the fewest insertions, deletions and substitutions between rows of ``(N, A)`` and ``(N, B)``.

    Negative numbers pad.  A row of the table at a time for all pairs: within it each cell is the least of those before
    it plus their distance, which is a running minimum.

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
