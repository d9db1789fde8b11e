"""Tests that may be looked at for ever: conformal test martingales, and confidence sequences by betting.

A *bag* holds what was seen so far, at first the answers of the audit.  The rank of a new value in it, with ties broken
at random, is uniform and independent of all earlier ranks as long as old and new values are exchangeable.  A
*martingale* bets against that: its wealth has an expected value of 1 and exceeds ``1 / alpha`` at any time, over an
unlimited number of looks, with a chance of at most ``alpha`` (Ville's inequality).

* The bag is full at ``MOST`` values; then one of them, drawn uniformly, leaves.  That keeps ranks independent: which
  value leaves does not depend on which one is new, given the values.
* The bets are power functions of the rank, from either end, of its distance from either end, and of that from the
  middle, and a histogram that learns.  Wealth is spread over all possible times of the change beforehand, so that a
  change after a million values costs a few values more than one after ten, and nothing is lost by waiting.
* Martingales of different streams live in different filtrations, where averages need not be martingales; so a family
  divides alpha over its streams (``shares``), which holds under any dependence.

References: V. Vovk, I. Nouretdinov, A. Gammerman (2003), "Testing Exchangeability On-Line", ICML; V. Vovk (2021),
"Testing randomness online", doi:10.1214/20-STS817; A. Ramdas et al. (2023), "Game-theoretic statistics and safe
anytime-valid inference", doi:10.1214/23-STS894; Y. J. Choe and A. Ramdas (2024), arXiv:2402.09698 (filtrations);
I. Waudby-Smith and A. Ramdas (2024), doi:10.1093/jrsssb/qkad009 (confidence sequences).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

MOST = 4096
"""Values that a bag holds."""

_BINS, _MEMORY = 8, 0.99
_BETS = 13
_LEAST = 1e-9
_RICHEST = 1e200


def draw(*words: object) -> tuple[float, float]:
    """Two numbers in (0, 1) that these words give: the same run, repeated after a crash, draws the same."""
    digest = hashlib.blake2b("|".join(map(str, words)).encode(), digest_size=16).digest()
    one, other = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    return (one + 0.5) / 2**64, (other + 0.5) / 2**64


@dataclass
class Bag:
    """Sorted values, among which new ones are ranked; a list, as one value is inserted at a time."""

    values: list[float]

    def rank(self, value: float, chance: tuple[float, float]) -> float:
        """The share of values, this one among them, that are smaller, with ties broken at random; it stays in the bag.

        ``chance``: two independent uniform numbers, for ties and for the value that leaves.
        """
        below, upto = bisect_left(self.values, value), bisect_right(self.values, value)
        p = (below + chance[0] * (upto - below + 1)) / (len(self.values) + 1)
        self.values.insert(below, value)
        if len(self.values) > MOST:
            del self.values[int(chance[1] * len(self.values))]
        return p


@dataclass
class Martingale:
    """Wealth against ranks that are uniform and independent; 1 at first, see the module."""

    wealth: list[float] = field(default_factory=lambda: [0.0] * _BETS)
    counts: list[float] = field(default_factory=lambda: [1.0] * _BINS)
    steps: int = 0

    def bet(self, p: float) -> None:
        """Bet on one rank in 0..1."""
        ends, place = 2 * min(p, 1 - p), min(int(p * _BINS), _BINS - 1)
        won = [_BINS * self.counts[place] / sum(self.counts)]
        for rank in (p, 1 - p, ends, 1 - ends):
            root = max(rank, _LEAST) ** -0.25
            won += (0.75 * root, 0.5 * root**2, 0.25 * root**3)  # k r^(k - 1), whose integral over 0..1 is 1
        new = (_reserve(self.steps) - _reserve(self.steps + 1)) / _BETS
        self.wealth = [min((held + new) * one, _RICHEST) for held, one in zip(self.wealth, won, strict=True)]
        self.steps += 1
        self.counts = [1 + _MEMORY * (count - 1) for count in self.counts]
        self.counts[place] += 1

    @property
    def value(self) -> float:
        """The wealth: an e-value at any time at which one chooses to look."""
        return sum(self.wealth) + _reserve(self.steps)


def _reserve(steps: int) -> float:
    """The wealth that is kept for changes after so many values."""
    return 1 / math.sqrt(1 + steps / 10)


def shares(slices: int) -> tuple[float, float]:
    """Of alpha, how much all streams of everything share, and those of slices; without slices nothing is divided."""
    return (0.5, 0.5) if slices else (1.0, 0.0)


def nth_share(number: int) -> float:
    """The share of the n-th (from 1) of a list whose length is not known before; all add up to 1."""
    return 1 / (number * (number + 1))


_STAKES = (0.25, 0.5, 0.9)


@dataclass
class Floor:
    """Wealth against *the mean of each value in 0..1, given the earlier ones, is at least the limit*.

    It needs no constant mean: it also grows when the mean falls below the limit after a long time.
    """

    limit: float
    wealth: list[float] = field(default_factory=lambda: [0.0] * len(_STAKES))
    steps: int = 0
    highest: float = 1.0

    def add(self, value: float) -> None:
        """One value in 0..1."""
        new = (_reserve(self.steps) - _reserve(self.steps + 1)) / len(_STAKES)
        gain = (self.limit - value) / max(1 - self.limit, 1e-3)  # -1 at least
        won = [1 + stake * gain for stake in _STAKES]
        self.wealth = [min((held + new) * one, _RICHEST) for held, one in zip(self.wealth, won, strict=True)]
        self.steps += 1
        self.highest = max(self.highest, sum(self.wealth) + _reserve(self.steps))


_GRID = np.linspace(0.0, 1.0, 401)


@dataclass
class MeanSequence:
    """A confidence sequence for the mean of values in 0..1 that arrive one by one: it holds at all times at once.

    It needs no independence: the mean is that of each value given the earlier ones, which must not change.  Two bettors
    for each possible mean, one on more and one on less.  A mean is excluded when its bettor has ``2 / alpha``.
    """

    up: Numbers = field(default_factory=lambda: np.zeros(len(_GRID)))
    """``(M,)``: the logarithm of the wealth of those who bet on more than each mean."""
    down: Numbers = field(default_factory=lambda: np.zeros(len(_GRID)))
    best: Numbers = field(default_factory=lambda: np.zeros(2))
    """The largest mean excluded from below, and the smallest from above, as 1 less it."""
    total: float = 0.5
    squares: float = 0.25
    images: int = 0

    def add(self, value: float, alpha: float) -> None:
        """One value in 0..1."""
        count = self.images + 1
        limit = math.log(2 / alpha)
        size = math.sqrt(2 * limit / (self.squares * math.log(1 + count)))
        with np.errstate(divide="ignore"):
            self.up += np.log1p(np.minimum(size, 0.5 / np.maximum(_GRID, 1e-12)) * (value - _GRID))
            self.down += np.log1p(-np.minimum(size, 0.5 / np.maximum(1 - _GRID, 1e-12)) * (value - _GRID))
        ends = [int(np.argmax(wealth < limit)) for wealth in (self.up, self.down[::-1])]  # the first that is possible
        self.best = np.maximum(self.best, _GRID[np.maximum(np.array(ends) - 1, 0)])
        self.images = count
        self.total += value
        self.squares += (value - self.total / (count + 1)) ** 2

    @property
    def interval(self) -> tuple[float, float, float]:
        """The mean of the values and its ends; ``(0, 0, 1)`` before the first."""
        low, high = float(self.best[0]), 1 - float(self.best[1])
        mean = (self.total - 0.5) / self.images if self.images else 0.0
        return mean, min(low, mean), max(high, mean)


@dataclass
class Stream:
    """One watched quantity: a bag for each season, and the bets on all ranks.

    ``audited`` are the values that a bag begins with.  With seasons a bag begins empty, and a season is compared with
    its own past: audited images name no time.
    """

    audited: list[float]
    bags: dict[str, Bag] = field(default_factory=dict)
    bets: Martingale = field(default_factory=Martingale)
    highest: float = 1.0
    total: float = 0.0

    def watch(self, value: float, chance: tuple[float, float], season: str = "") -> None:
        """One value, with two random numbers in 0..1."""
        if season not in self.bags:
            drawn = np.random.default_rng(0).permutation(self.audited)[:MOST].tolist() if not season else []
            self.bags[season] = Bag(sorted(drawn))
        self.bets.bet(self.bags[season].rank(value, chance))
        self.highest = max(self.highest, self.bets.value)
        self.total += value

    def pack(self) -> dict[str, Numbers]:
        """Everything as arrays, to be kept."""
        made = {"audited": self.audited, "wealth": self.bets.wealth, "counts": self.bets.counts,
                "numbers": [self.bets.steps, self.highest, self.total]}  # fmt: skip
        bags = {f"bag.{season}": bag.values for season, bag in self.bags.items()}
        return {name: np.array(held, np.float64) for name, held in (made | bags).items()}

    @classmethod
    def unpack(cls, arrays: Mapping[str, Numbers]) -> Stream:
        """What ``pack`` made."""
        steps, highest, total = arrays["numbers"].tolist()
        bags = {name[4:]: Bag(held.tolist()) for name, held in arrays.items() if name.startswith("bag.")}
        bets = Martingale(arrays["wealth"].tolist(), arrays["counts"].tolist(), int(steps))
        return cls(arrays["audited"].tolist(), bags, bets, highest, total)
