"""Deciding a loss rule while the images come in, with error rates that hold whenever one stops.

The capital of a gambler who bets against "the loss is at least the limit" cannot, while that is true, ever reach
1/alpha with a chance over alpha (Ville).  One image multiplies the capital by ``1 + stake * (limit - x)``, where
``x`` is 1 for an image lost, -1 for one won and 0 else; so it follows from the counts alone, in any order.  Not knowing
the best stake, the gambler divides the money over a grid of them.  The bet against "at most the limit" is the mirror
image.

A test at a fixed number of images is stronger on exactly that number.  This one may look after every image.

References: I. Waudby-Smith and A. Ramdas (2024), "Estimating means of bounded random variables by betting",
doi:10.1093/jrsssb/qkad009; J. Ville (1939).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_STAKES = np.geomspace(0.02, 0.98, 24)
"""Shares of the largest stake that can't lose everything."""


def log_capital(lost: Any, won: Any, images: Any, limit: float, *, against_keeping: bool = False) -> Numbers:
    """The logarithm of the gambler's capital, elementwise.

    Large means that the loss is under ``limit``; with ``against_keeping`` that it is over it.
    """
    b, c, n = (np.asarray(count, float) for count in np.broadcast_arrays(lost, won, images))
    sign, most = (-1.0, 1 / (1 + limit)) if against_keeping else (1.0, 1 / (1 - limit))
    stakes = _STAKES * most
    log_lost, log_won, log_same = (np.log1p(sign * stakes * (limit - x)) for x in (1.0, -1.0, 0.0))
    parts = b[..., None] * log_lost + c[..., None] * log_won + (n - b - c)[..., None] * log_same
    top = parts.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(parts - top).mean(axis=-1)))


def decided(lost: Any, won: Any, images: Any, limit: float, alpha: float) -> NDArray[np.int64]:
    """1 where the rule is shown to be met, -1 where it is shown to be violated, 0 where images are still needed."""
    bar = np.log(1 / alpha)
    met = log_capital(lost, won, images, limit) >= bar
    broken = log_capital(lost, won, images, limit, against_keeping=True) >= bar
    return np.where(met, 1, np.where(broken, -1, 0))
