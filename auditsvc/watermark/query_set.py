"""Black-box detection from answers alone: ordinary images, no trigger set, labels or logits.

At release up to a thousand images are chosen on which the unmarked model is least certain; for each, ``J`` holds the
gradient of the margin between its two best answers.  A suspect's answers estimate the direction in which its weights
moved, as far as ``J`` spans it: ``a = (J J' + ridge)^-1 t``, where ``t`` are the suspect's differing answers.  The
test is the exact one for weights, with ``v = J' a``: ``a`` does not depend on the key.  Only ``J J'`` and ``J xi`` are
stored, neither the model nor its gradients.  The images must not be those on which ``embed`` kept the answers fixed.

Limits: weak after fine-tuning or further pruning, none after distillation.  A negative result proves nothing.

Reference: the test of outputs through gradients is that of A. Block et al. (2025), "GaussMark", arXiv:2501.13941; the
ridge, which whitens ``J``, is what makes it strong on small networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models.devices import one_thread
from auditsvc.records import Digest, digest_of
from auditsvc.watermark.gradients import Logits, Probe, Target, answers_of, evaluating, flat, parts_of, prepare, rows_of
from auditsvc.watermark.significance import log10_p
from auditsvc.watermark.watermark_keys import Payload, require_bound

READABLE = 5
"""A probability of fewer units in its last digit is ignored."""

QUERIES = 1000
"""Images that are chosen, at most."""

HALVINGS = 12
"""Steps in the search for the turning point between two images."""

RIDGE_LABELS = 0.1
RIDGE_LOGITS = 0.001
"""Times the mean of the diagonal of ``J J'``; fixed in the specification, never tuned on a suspect."""


@dataclass(frozen=True)
class Answered:
    """How strongly a suspect's answers show one key's mark.  ``agreement`` is the share of equal first answers."""

    z: float
    log10_p: float
    queries: int
    by: str
    agreement: float


@dataclass(frozen=True)
class Queries:
    """Query images and what scoring their answers needs; secret, because it reveals the key.

    ``images`` are ``(N, C, H, W)``; ``first`` and ``second`` the unmarked model's two best answers, ``(N,)``;
    ``margin`` the difference of their logits; ``gram`` is ``J J'``, ``(N, N)``, and ``carried`` ``J xi``, ``(N,)``.
    """

    images: Tensor
    first: Tensor
    second: Tensor
    margin: Tensor
    gram: Tensor
    carried: Tensor

    def as_bytes(self) -> bytes:
        """One safetensors file."""
        return bytes(save({name: getattr(self, name).contiguous() for name in _FIELDS}))

    @property
    def digest(self) -> Digest:
        """What is published at release: it fixes the set and shows nothing of it."""
        return digest_of(self.as_bytes())

    def test(self, answers: Tensor) -> Answered:
        """Judge a suspect's answers: labels ``(N,)``, or logits or probabilities ``(N, classes)``.

        Raises:
            InvalidInput: answers that don't fit the queries.
        """
        if answers.shape[:1] != self.first.shape or answers.dim() > 2:
            raise InvalidInput(f"{len(self.first)} queries need as many answers, (N,) or (N, classes)")
        labels = answers if answers.dim() == 1 else answers.argmax(1)
        signal = self._by_label(labels) if answers.dim() == 1 else self._by_margin(answers)
        ridge = RIDGE_LABELS if answers.dim() == 1 else RIDGE_LOGITS
        gram = self.gram.double()
        damped = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        amounts = torch.linalg.solve(damped, signal)
        length = float(amounts @ gram @ amounts)
        z = float(amounts @ self.carried.double()) / length**0.5 if length > 0 else 0.0
        by = "labels" if answers.dim() == 1 else "logits"
        return Answered(z, log10_p(z), len(labels), by, float((labels == self.first).double().mean()))

    def _by_label(self, labels: Tensor) -> Tensor:
        signal = (labels == self.first).double() - (labels == self.second).double()
        return signal - signal.mean()

    def _by_margin(self, answers: Tensor) -> Tensor:
        """What the suspect's margin has more than the unmarked model's; 0 where rounding has eaten it."""
        full = answers.double()
        if full.shape[1] <= int(torch.maximum(self.first, self.second).max()):
            raise InvalidInput(f"the answers have {full.shape[1]} classes, fewer than the model that is compared with")
        if full.min() < 0 or not torch.allclose(full.sum(1), torch.ones(len(full), dtype=torch.float64), atol=0.1):
            return _margin(full, self.first, self.second) - self.margin.double()
        rows = torch.arange(len(full))
        least = torch.minimum(full[rows, self.first], full[rows, self.second])
        logarithms = full.clamp(min=torch.finfo(torch.float32).tiny).log()
        signal = _margin(logarithms, self.first, self.second) - self.margin.double()
        return torch.where(least >= READABLE * _rounding(full), signal, 0.0)

    @classmethod
    def from_bytes(cls, data: bytes) -> Queries:
        """The queries back from their file.  Raises ``InvalidInput`` for anything else."""
        try:
            fields = load(data)
            return cls(**{name: fields[name] for name in _FIELDS})
        except (SafetensorError, KeyError) as error:
            raise InvalidInput(f"not a file of queries: {error}") from error


_FIELDS = ("images", "first", "second", "margin", "gram", "carried")


def prepare_queries(
    model: nn.Module,
    logits: Logits,
    pool: Tensor,
    *,
    seed: bytes,
    unmarked: Digest,
    payload: Payload,
    count: int = QUERIES,
    halfway: bool = False,
    target: Target | None = None,
) -> Queries:
    """Choose the images of the pool on which the *unmarked* model hesitates most, and prepare the test.

    A model that is right 99 times of 100 hesitates on few images, and then its labels alone are too little evidence.
    ``halfway`` makes images on which it hesitates, each a mixture of two of the pool that it answers
    differently.  They look like double exposures, which an input filter might reject.

    ``target`` is what the mark is made of, as ``prepare`` gave it on the images that it is fitted to; else it is made
    on the pool.  All are rounded to 8 bits, so that they can be published as image files.

    Cost: one pass over the pool (``halfway``: ``HALVINGS`` more over the queries), one backward pass for each query,
    and ``count**2 * weights`` multiplications.

    Raises:
        InvalidInput: weights other than ``unmarked``, fewer than two classes, or an empty pool.
    """
    require_bound(model.state_dict(), unmarked)
    if not len(pool):
        raise InvalidInput("no images to choose queries from")
    with evaluating(model), one_thread():
        answers = answers_of(logits, pool)
        if answers.shape[1] < 2:
            raise InvalidInput("queries need a model that chooses between at least two answers")
        chosen = _halfway(logits, pool, answers, count) if halfway else _hesitant(pool, answers, count)
        chosen = (chosen * 255).round() / 255
        before = answers_of(logits, chosen)
        best = before.topk(2, dim=1).indices
        first, second = best[:, 0], best[:, 1]
        sides = torch.zeros(len(chosen), 1, answers.shape[1])
        sides[:, 0].scatter_(1, first[:, None], 1.0)
        sides[:, 0].scatter_(1, second[:, None], -1.0)
        target = target or prepare(model, logits, pool, seed, unmarked, payload)
        gram, carried = _sums(target, Probe(logits, chosen, sides))
    return Queries(chosen, first.contiguous(), second.contiguous(), _margin(before, first, second), gram, carried)


def _hesitant(pool: Tensor, answers: Tensor, count: int) -> Tensor:
    """The images with the smallest difference between the two best answers."""
    best = answers.topk(2, dim=1).values
    return pool[torch.argsort(best[:, 0] - best[:, 1], stable=True)[:count]].clone()


def _halfway(logits: Logits, pool: Tensor, answers: Tensor, count: int) -> Tensor:
    """Mixtures of two images at the point where the model turns away from the answer to the first."""
    labels = answers.argmax(1)
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randint(0, len(pool), (4 * count,), generator=draw) for _ in range(2))
    differ = labels[left] != labels[right]
    left, right = left[differ][:count], right[differ][:count]
    if not len(left):
        raise InvalidInput(
            "the model answers all images of the pool alike, so there is no decision boundary between them"
        )
    low, high = torch.zeros(len(left)), torch.ones(len(left))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = answers_of(logits, _mixed(pool, left, right, middle))
        still = found.argmax(1) == labels[left]
        low, high = torch.where(still, middle, low), torch.where(still, high, middle)
    return _mixed(pool, left, right, (low + high) / 2)


def _mixed(pool: Tensor, left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    part = share.reshape(-1, 1, 1, 1)
    return (1 - part) * pool[left] + part * pool[right]


def _sums(target: Target, probe: Probe) -> tuple[Tensor, Tensor]:
    gram = torch.zeros(probe.rows, probe.rows, dtype=torch.float64)
    carried = torch.zeros(probe.rows, dtype=torch.float64)
    for parts in parts_of(target.layers, probe.rows):
        rows = rows_of(parts, probe)
        rows *= flat(target.scales, parts)
        gram += (rows @ rows.T).double()
        carried += (rows @ flat(target.signs, parts)).double()
    return gram, carried


def _rounding(probabilities: Tensor) -> float:
    """The last digit that these probabilities were rounded to: 0.1 to 0.00001, or 1e-6 for finer ones."""
    for digits in range(1, 6):
        whole = probabilities * 10**digits
        if torch.allclose(whole, whole.round(), atol=1e-3):
            return float(10.0**-digits)
    return 1e-6


def _margin(answers: Tensor, first: Tensor, second: Tensor) -> Tensor:
    rows = torch.arange(len(answers))
    return answers[rows, first] - answers[rows, second]
