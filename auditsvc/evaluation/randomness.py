"""Per-image random numbers, independent of batch, order and device.

A stateful generator would make a reading depend on the batch size.  Here every number is a hash of the image's seed
and its index in the draw, so any part can be drawn alone and gives the same bits.

Reference: G. L. Steele, D. Lea and C. H. Flood (2014), "Fast Splittable Pseudorandom Number Generators",
doi:10.1145/2660193.2660195 (the mixing function).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685

_BLOCK = 1 << 15
"""Words that are mixed at once, so that they stay in the CPU's cache."""


def _shifted(words: Tensor, bits: int) -> Tensor:
    """A logical right shift of signed 64-bit words."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """The number as a signed 64-bit word: Python's integers do not wrap, torch's do."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _mixed(words: Tensor) -> Tensor:
    """SplitMix64's finaliser; multiplication wraps at 64 bits."""
    words = (words ^ _shifted(words, 30)).mul_(_FIRST)
    words = words.bitwise_xor_(_shifted(words, 27)).mul_(_SECOND)
    return words.bitwise_xor_(_shifted(words, 31))


def image_seeds(seed: int, purpose: str, indices: Tensor) -> Tensor:
    """One seed for each image, ``(N,)`` int64, from the run's seed, a purpose and the images' numbers."""
    text = hashlib.sha256(f"{seed}|{purpose}".encode()).digest()
    start = int.from_bytes(text[:8], "little", signed=True)
    return _mixed(indices.to(torch.int64) * _GOLDEN + start)


def uniform(seeds: Tensor, shape: Sequence[int] = (), stream: int = 0) -> Tensor:
    """``(N, *shape)`` float32 in [0, 1); ``stream`` numbers independent draws of the same image."""
    count = math.prod(shape)
    places = torch.arange(count, device=seeds.device, dtype=torch.int64).mul_(_GOLDEN)
    start = _mixed(seeds + _signed((stream + 1) * _GOLDEN))[:, None]
    block = max(1, _BLOCK // max(len(seeds), 1)) if seeds.device.type == "cpu" else max(count, 1)
    numbers = torch.empty(len(seeds), count, device=seeds.device)
    for first in range(0, count, block):
        words = _mixed(start + places[first : first + block])
        numbers[:, first : first + block] = _shifted(words, 40)
    return numbers.div_(1 << 24).reshape(seeds.shape[0], *shape)


def normal(seeds: Tensor, shape: Sequence[int] = (), stream: int = 0) -> Tensor:
    """``(N, *shape)`` float32, standard normal (Box-Muller on two uniform draws)."""
    radius = uniform(seeds, shape, 2 * stream + 1000).neg_().log1p_().mul_(-2).sqrt_()
    return uniform(seeds, shape, 2 * stream + 1001).mul_(2 * torch.pi).cos_().mul_(radius)


_FEW = 20.0
"""Below this rate Poisson's law is followed exactly, above it by its first three moments."""


def poisson(seeds: Tensor, rates: Tensor, stream: int = 0) -> Tensor:
    """Counts ``(N, ...)`` float32 of the shape of ``rates`` (N, ...), each by Poisson's law of its own rate.

    Few are counted by inverting the law on one uniform draw.  Many are a normal draw with the law's mean, variance
    and skew, rounded: at 20 the variance is then within one per cent.
    """
    shape = rates.shape[1:]
    draw = normal(seeds, shape, stream)
    many = (rates + rates.clamp(min=0).sqrt() * draw + (draw * draw - 1) / 6).round().clamp_(min=0)
    few = rates < _FEW
    if not bool(few.any()):
        return many
    many[few] = _inverted(rates[few], uniform(seeds, shape, 2 * stream + 2000)[few])
    return many


def _inverted(rates: Tensor, draws: Tensor) -> Tensor:
    """The smallest count whose cumulated probability exceeds the draw."""
    chance = torch.exp(-rates)
    reached, counts = chance.clone(), torch.zeros_like(rates)
    for number in range(1, 64):
        open_ones = draws > reached
        if not bool(open_ones.any()):
            break
        counts += open_ones
        chance = chance * rates / number
        reached += chance
    return counts
