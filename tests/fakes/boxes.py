"""Made-up answers of a detector, and the objects that they are about."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def crowded(chance: np.random.Generator, images: int) -> tuple[Tensor, Tensor]:
    """``(N, 12, 6)`` answers of two classes, some near objects and some not, and ``(N, 5, 5)`` objects, some padded."""
    corners = np.sort(chance.random((images, 5, 2, 2)), axis=2).reshape(images, 5, 4)
    classes = chance.integers(-1, 2, (images, 5, 1))
    near = corners[:, chance.integers(0, 5, 12)] + chance.normal(0, 0.03, (images, 12, 4))
    near[..., 2:] = np.maximum(near[..., 2:], near[..., :2] + 1e-3)
    outputs = np.concatenate((near, chance.random((images, 12, 2))), axis=2)
    targets = np.concatenate((classes, corners), axis=2)
    return torch.from_numpy(outputs.astype(np.float32)), torch.from_numpy(targets.astype(np.float32))
