"""The worst of some small rotations and shifts: no pixel is repainted, the camera is only held otherwise.

Random tries, kept where the loss is highest; the authors found that gradients help little here and that the worst
of ten random tries comes near the full grid.

Reference: L. Engstrom et al. (2017), "Exploring the Landscape of Spatial Robustness", arXiv:1712.02779.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.attacks.target import Outputs, TargetModel, task_loss
from auditsvc.evaluation.randomness import uniform
from auditsvc.tasks import Task


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
    """The images turned and shifted by their draws ``(N, 3)`` in -1..1; what comes in from outside is mirrored."""
    angle = draw[:, 0] * degrees * torch.pi / 180
    cosine, sine = torch.cos(angle), torch.sin(angle)
    height, width = images.shape[-2:]
    rows = (
        torch.stack((cosine, -sine * height / width, 2 * shift * draw[:, 1]), dim=1),
        torch.stack((sine * width / height, cosine, 2 * shift * draw[:, 2]), dim=1),
    )
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)
