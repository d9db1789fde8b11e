"""What a mark is put on: layers, the scale and sign of each weight, and the images whose answers are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest
from auditsvc.watermark.gradients import Layer, Logits, Part, Probe, layers_of, reached
from auditsvc.watermark.watermark_keys import Payload, all_subkeys, carrier

ROWS = (100, 800)
"""Fewest and most rows: answers of images that are held still."""

ROOM = 45_000_000
"""Rows times weights that are affordable: some 5 s on a busy core.  Between the two, rows = ROOM / weights."""

MIXTURES = 2
"""Random mixtures of logits for each image, each a row; two classes have one."""


@dataclass(frozen=True)
class Target:
    """What is marked: layers, the scale of each weight (0 where it stays), the signs, the images."""

    layers: tuple[Layer, ...]
    scales: dict[str, Tensor]
    signs: dict[str, Tensor]
    probe: Probe

    @property
    def count(self) -> int:
        """Weights that carry the mark."""
        return sum(int(torch.count_nonzero(scale)) for scale in self.scales.values())


def prepare(
    model: nn.Module, logits: Logits, images: Tensor, seed: bytes, unmarked: Digest, payload: Payload
) -> Target:
    """All that marking needs to know before it looks at gradients.  Raises ``InvalidInput``: nothing to mark."""
    with torch.no_grad():
        classes = logits(images[:1]).shape[1]
    layers = reached(layers_of(model), logits, images[:1])
    if not layers:
        raise InvalidInput("the logits depend on no convolution or linear layer, so there is nothing to mark")
    scales = {layer.name: filter_scales(layer.module.weight.detach()) for layer in layers}
    count = sum(int(torch.count_nonzero(scale)) for scale in scales.values())
    mixtures = min(MIXTURES, max(classes - 1, 1))
    rows = min(max(ROOM // max(count, 1), ROWS[0]), ROWS[1])
    held = min(max(rows // mixtures, 1), -(-2 * len(images) // 3))
    probe = Probe(logits, images[:held], _mixtures(held, mixtures, classes))
    subkeys = all_subkeys(seed)
    signs = {}
    for layer in layers:
        weight = layer.module.weight
        flat = carrier(subkeys, unmarked, layer.name, weight.numel()).carrying(payload)
        signs[layer.name] = torch.from_numpy(flat).reshape(weight.shape)
    return Target(layers, scales, signs, probe)


def filter_scales(weight: Tensor) -> Tensor:
    """For each weight the root mean square of its output filter's surviving weights, 0 where the weight is 0."""
    full = weight.float()
    alive = full != 0
    other = tuple(range(1, full.dim()))
    rms = (full.square().sum(other, keepdim=True) / alive.sum(other, keepdim=True).clamp(min=1)).sqrt()
    return rms * alive


def _mixtures(images: int, count: int, classes: int) -> Tensor:
    """``(N, R, C)``: mixtures of centred logits, +1 or -1 each; the same for everybody, as they are no secret."""
    bits = np.random.Generator(np.random.Philox(0)).integers(0, 2, (images, count, classes))
    mixtures = torch.from_numpy(1.0 - 2.0 * bits).float()
    if classes == 2:
        mixtures = torch.tensor([1.0, -1.0]).expand(images, 1, 2)
    return mixtures - mixtures.mean(2, keepdim=True) if classes > 1 else torch.ones(images, 1, 1)


def flat(values: dict[str, Tensor], parts: Sequence[Part]) -> Tensor:
    """The values of these parts in one row, in the order of ``gradients.rows_of``."""
    return torch.cat([values[part.layer.name][part.start : part.stop].reshape(-1) for part in parts])


def answers_of(logits: Logits, images: Tensor) -> Tensor:
    """``(N, C)`` float32, a small batch at a time."""
    with torch.no_grad():
        return torch.cat([logits(batch) for _, batch, _ in Probe(logits, images, images[:, :0]).batches()]).float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and gradients allowed on the weights; both as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.eval()
    try:
        for weight, _ in wanted:
            weight.requires_grad_(True)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, flag in wanted:
            weight.requires_grad_(flag)
