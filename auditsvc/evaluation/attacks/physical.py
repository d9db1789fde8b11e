"""Physical attacks: the worst place for a grey square, an adversarial patch, and small rotations and shifts.

The square is tried in the order of a gradient estimate of the loss, until the answer changes or ``tries`` are used
up.  With as many tries as places the search is exhaustive; with fewer it is a lower bound (the estimate finds about
half at once).  The patch is placed by the image's seed and its colours are optimised for one image and one place,
so it is stronger than a printed patch.  Rotations and shifts are random tries, of which the highest loss is kept:
gradients help little here, and the worst of ten tries comes near the full grid.

Reference: T. Brown et al. (2017), "Adversarial Patch", arXiv:1712.09665; D. Karmon et al. (2018), "LaVAN",
arXiv:1801.02608 (one image, one place); L. Engstrom et al. (2017), "Exploring the Landscape of Spatial Robustness",
arXiv:1712.02779.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.attacks.target import Outputs, TargetModel, margin, task_loss
from auditsvc.evaluation.perturbations.noise_bank import side_of, squares
from auditsvc.evaluation.randomness import uniform
from auditsvc.tasks import Task


@dataclass(frozen=True)
class Patch:
    """A square of ``fraction`` of each image's area, climbed for ``steps`` steps from noise."""

    task: Task
    fraction: float
    steps: int = 50
    stream: int = 200

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the first iterate that breaks it, or the last one."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        inside = self._squares(images, seeds)
        current = torch.where(inside, uniform(seeds, images.shape[1:], self.stream), images)[places]
        for number in range(self.steps):
            look = target.climb(current, targets[places], None, task_loss)
            standing = target.standing(look.answers, targets[places])
            result[places] = current
            places, current = places[standing], current[standing]
            if not len(places):
                return result
            size = 0.25 * (1 - number / self.steps) + 0.02
            moved = (current + size * look.slope[standing].sign()).clamp(0, 1)
            current = torch.where(inside[places], moved, current)
        result[places] = current
        return result

    def _squares(self, images: Tensor, seeds: Tensor) -> Tensor:
        """``(N, 1, H, W)`` bool, true inside each image's square."""
        height, width = images.shape[-2:]
        place = uniform(seeds, (2,), self.stream + 1)
        return squares(place[:, 0], place[:, 1], side_of(self.fraction, height, width), height, width)


@dataclass(frozen=True)
class Spatial:
    """Rotations up to ``degrees`` and shifts up to ``shift`` of the image's side, ``tries`` of them."""

    task: Task
    degrees: float = 15.0
    shift: float = 0.1
    tries: int = 10
    stream: int = 220

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the first try that breaks it, or the one of the highest loss."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        worst = torch.full((len(images),), -torch.inf, device=images.device)
        draws = 2 * uniform(seeds, (self.tries, 3), self.stream) - 1
        for number in range(self.tries):
            if not len(places):
                break
            tried = turned(images[places], draws[places, number], self.degrees, self.shift)
            answers = target.ask(tried)
            heights = task_loss(self.task, answers, targets[places], None)
            standing = target.standing(answers, targets[places])
            better = (heights > worst[places]) | ~standing
            worst[places[better]] = heights[better]
            result[places[better]] = tried[better]
            places = places[standing]
        return result


def turned(images: Tensor, draw: Tensor, degrees: float, shift: float) -> Tensor:
    """The images turned and shifted by their draws ``(N, 3)`` in -1..1; the outside is filled by reflection."""
    angle = draw[:, 0] * degrees * torch.pi / 180
    cosine, sine = torch.cos(angle), torch.sin(angle)
    height, width = images.shape[-2:]
    rows = (
        torch.stack((cosine, -sine * height / width, 2 * shift * draw[:, 1]), dim=1),
        torch.stack((sine * width / height, cosine, 2 * shift * draw[:, 2]), dim=1),
    )
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


@dataclass(frozen=True)
class WorstCover:
    """The worst grey square of ``fraction`` of the area, on a grid of half a side."""

    task: Task
    fraction: float
    grey: float = 0.5
    tries: int = 32

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, _seeds: Tensor) -> Tensor:
        """For each image the first cover that breaks it, or the one that hurts most."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        height, width = images.shape[-2:]
        side = min(side_of(self.fraction, height, width), height, width)
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        if not len(places):
            return result
        order, spots = self._order(target, images[places], targets[places], side)
        worst = torch.full((len(places),), -torch.inf, device=images.device)
        for number in range(min(self.tries, len(spots))):
            tried = self._covered(images[places], spots[order[:, number]], side)
            answers = target.ask(tried)
            heights = margin(self.task, answers, targets[places])
            standing = target.standing(answers, targets[places])
            better = (heights > worst) | ~standing
            result[places[better]] = tried[better]
            worst = torch.where(better, heights, worst)
            places, order, worst = places[standing], order[standing], worst[standing]
            if not len(places):
                break
        return result

    def _order(self, target: TargetModel, images: Tensor, targets: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """For each image its places, most promising first ``(N, P)``; and the places' corners ``(P, 2)``."""
        height, width = images.shape[-2:]
        stride = max(side // 2, 1)
        tops = sorted({*range(0, height - side + 1, stride), height - side})
        lefts = sorted({*range(0, width - side + 1, stride), width - side})
        spots = torch.tensor([(top, left) for top in tops for left in lefts], device=images.device)
        slope = target.climb(images, targets, None, margin).slope
        heat = (slope * (self.grey - images)).sum(dim=1, keepdim=True)
        mean = functional.avg_pool2d(heat, side, stride=1)[:, 0]
        guess = mean[:, spots[:, 0], spots[:, 1]]
        return guess.argsort(dim=1, descending=True, stable=True), spots

    def _covered(self, images: Tensor, corners: Tensor, side: int) -> Tensor:
        """The images with a grey square at each one's corner."""
        height, width = images.shape[-2:]
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        top, left = corners[:, :1], corners[:, 1:]
        tall, wide = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
        inside = tall[:, None, :, None] & wide[:, None, None, :]
        return torch.where(inside, torch.full_like(images, self.grey), images)
