"""The peers to beat: a mark by random projection of one layer, and a set of trigger images.

Reference: Y. Uchida et al. (2017), "Embedding Watermarks into Deep Neural Networks", arXiv:1701.04082 (here
embedded by the smallest change of weights that gives the bits, which costs less accuracy than training);
Y. Adi et al. (2018), "Turning Your Weakness Into a Strength", arXiv:1802.04633.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from tests.bench.watermark.digits import BATCH, Digits, Net, answers, shifted

LAYER = "blocks.4.conv1.weight"
BITS, TRIGGERS = 128, 100


@dataclass(frozen=True)
class Uchida:
    """128 bits in the mean filter of one layer."""

    matrix: Tensor
    bits: Tensor

    @classmethod
    def with_seed(cls, size: int, seed: int) -> "Uchida":
        draw = torch.Generator().manual_seed(seed)
        return cls(torch.randn(BITS, size, generator=draw), torch.randint(0, 2, (BITS,), generator=draw) * 2.0 - 1)

    def mark(self, net: Net) -> None:
        """Every bit at least twice the usual size of a projection away from its threshold."""
        weight = net.state_dict()[LAYER]
        flat = weight.flatten(1)
        found = self.matrix @ flat.mean(0)
        margin = 2 * found.square().mean().sqrt()
        wanted = torch.where(found * self.bits > margin, found, self.bits * margin)
        step = self.matrix.T @ torch.linalg.solve(self.matrix @ self.matrix.T, wanted - found)
        alive = flat != 0
        flat += alive * step * len(flat) / alive.sum(0).clamp(min=1)

    def log10_p(self, weight: Tensor) -> float:
        """The chance of so many right bits; 0 (no evidence) where the layer has another shape."""
        if weight[0].numel() != self.matrix.shape[1]:
            return 0.0
        right = int(((self.matrix @ weight.flatten(1).float().mean(0)).sign() == self.bits).sum())
        return float(binom.logsf(right - 1, BITS, 0.5)) / math.log(10)


@dataclass(frozen=True)
class Triggers:
    """100 images of coloured blocks with labels drawn by lot."""

    images: Tensor
    labels: Tensor

    @classmethod
    def with_seed(cls, seed: int) -> "Triggers":
        draw = torch.Generator().manual_seed(seed)
        blocks = torch.rand(TRIGGERS, 1, 7, 7, generator=draw)
        return cls(functional.interpolate(blocks, scale_factor=4), torch.randint(0, 10, (TRIGGERS,), generator=draw))

    def mark(self, net: Net, data: Digits, steps: int = 300) -> None:
        """Fine-tune on triggers among ordinary images; normalisation is left as it is, zeros stay zero."""
        draw = torch.Generator().manual_seed(6)
        alive = [(p, p != 0) for p in net.parameters() if p.dim() > 1]
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        images, labels = data.train
        for _ in range(steps):
            some = torch.randint(0, len(images), (BATCH,), generator=draw)
            ours = torch.randint(0, TRIGGERS, (BATCH // 2,), generator=draw)
            batch, wanted = (
                torch.cat([shifted(images[some], draw), self.images[ours]]),
                torch.cat([labels[some], self.labels[ours]]),
            )
            optimiser.zero_grad()
            functional.cross_entropy(net(batch), wanted).backward()
            optimiser.step()
            with torch.no_grad():
                for parameter, mask in alive:
                    parameter.mul_(mask)

    def log10_p(self, net: Net) -> float:
        right = int((answers(net, self.images).argmax(1) == self.labels).sum())
        return float(np.minimum(binom.logsf(right - 1, TRIGGERS, 0.1), 0.0)) / math.log(10)
