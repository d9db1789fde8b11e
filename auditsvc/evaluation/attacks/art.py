"""Attacks of the Adversarial Robustness Toolbox (ART): a cross-check of PGD, and the decision-based HopSkipJump.

ART draws from NumPy's global generator, so each image is attacked alone, with the generator seeded from the image and
restored afterwards: neither the batch nor earlier runs affect the result.  This is slow, meant for dozens of images.

Reference: M.-I. Nicolae et al. (2018), "Adversarial Robustness Toolbox v1.0.0", arXiv:1807.01069; J. Chen et al.
(2020), "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", arXiv:1904.02144.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation.attacks.target import Ball, Outputs, TargetModel, ranks
from auditsvc.evaluation.randomness import uniform
from auditsvc.tasks import Task

STARTS = 100
"""Images that are tried as a start, for each image."""

FIRST_QUERIES, MOST_QUERIES = 100, 1000
"""Queries for the first and the last guess of HopSkipJump's direction."""


@dataclass(frozen=True)
class ArtPgd:
    """The toolbox's projected gradient descent in this ball, with a step of a quarter of the radius."""

    task: Task
    ball: Ball
    steps: int

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the toolbox's last iterate."""
        evasion = _toolbox().evasion
        options = {"eps": self.ball.radius, "eps_step": self.ball.radius / 4, "max_iter": self.steps}

        def make(wrapped: Any) -> Any:
            norm = math.inf if self.ball.norm == "Linf" else 2
            return evasion.ProjectedGradientDescent(wrapped, norm=norm, num_random_init=1, verbose=False, **options)

        return _one_by_one(make, TargetModel(outputs, self.task), images, targets, seeds)


@dataclass(frozen=True)
class HopSkipJump:
    """The toolbox's decision-based search for the smallest change; it uses answers alone, never a gradient."""

    task: Task
    norm: str
    steps: int = 10

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the nearest broken one that was found, or the image itself."""
        evasion = _toolbox().evasion
        options = {"max_iter": self.steps, "init_eval": FIRST_QUERIES, "max_eval": MOST_QUERIES}

        def make(wrapped: Any) -> Any:
            return evasion.HopSkipJump(wrapped, norm=math.inf if self.norm == "Linf" else 2, verbose=False, **options)

        target = TargetModel(outputs, self.task)
        return _one_by_one(make, target, images, targets, seeds, _starts(target, images, targets, seeds))


class _Asked(nn.Module):
    """A model as the toolbox wants it: NumPy 2 makes it ask in float64, which our models do not take."""

    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        return self._outputs(images.float())


@dataclass(frozen=True)
class _Toolbox:
    evasion: Any
    classification: Any


def _toolbox() -> _Toolbox:
    try:
        from art.attacks import evasion
        from art.estimators import classification
    except ImportError as error:
        raise Unavailable(f"the Adversarial Robustness Toolbox can't be imported: {error}") from error
    return _Toolbox(evasion, classification)


def _one_by_one(
    make: Any, target: TargetModel, images: Tensor, targets: Tensor, seeds: Tensor, starts: Tensor | None = None
) -> Tensor:
    """Attack every unbroken image, each with its own random numbers; with ``starts`` from one of them.

    A start that does not break its image is not used: the image counts as unbroken.
    """
    answers = target.ask(images)
    if not ranks(answers, targets):
        raise InvalidInput("the toolbox's attacks are for classification alone")
    wrapped = _toolbox().classification.PyTorchClassifier(
        _Asked(target.outputs), nn.CrossEntropyLoss(), tuple(images.shape[1:]), answers.shape[1],
        clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    open_to = target.standing(answers, targets)
    if starts is not None:
        open_to &= ~target.standing(target.ask(starts), targets)
    result = images.clone()
    for place in torch.nonzero(open_to).flatten().tolist():
        only = slice(place, place + 1)
        begin = {} if starts is None else {"x_adv_init": starts[only].cpu().numpy()}
        with _chance(int(seeds[place])), torch.inference_mode(mode=False):
            attack = make(wrapped)  # a new one each time: it counts its steps over calls
            found = attack.generate(images[only].cpu().numpy(), targets[only].cpu().numpy(), **begin)
        result[place] = torch.from_numpy(np.asarray(found[0], np.float32)).to(images.device)
    return result


def _starts(target: TargetModel, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
    """For each image one that is answered otherwise: noise or a flat colour, the first of some that does.

    The toolbox would draw them itself, from a generator that cannot be seeded.
    """
    found, missing = images.clone(), torch.arange(len(images), device=images.device)
    for number in range(STARTS):
        if not len(missing):
            break
        shape = images.shape[1:] if number % 2 else (images.shape[1], 1, 1)
        tried = uniform(seeds[missing], shape, 700 + number).expand(-1, *images.shape[1:])
        fallen = ~target.standing(target.ask(tried.contiguous()), targets[missing])
        found[missing[fallen]] = tried[fallen]
        missing = missing[~fallen]
    return found


@contextlib.contextmanager
def _chance(seed: int) -> Iterator[None]:
    """NumPy's global generator from this seed, and as it was afterwards."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
