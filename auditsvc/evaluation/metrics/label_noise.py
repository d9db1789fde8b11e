"""Labels that are probably wrong, by confident learning.

An image is a suspect if the likeliest class is another than its label, and likelier than that class is on average among
the images that are labelled so.  The probabilities have to be of a model that did not learn from these labels: the
parent's on images that it was not trained on, or those of ``out_of_fold``.  What such a model confuses with confidence
counts as a wrong label too, so the share of suspects is as good as the model.

Reference: C. Northcutt, L. Jiang and I. Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels",
doi:10.1613/jair.1.12125.  ``out_of_fold`` is least-squares classification with its exact leave-one-out answers:
G. C. Cawley and N. L. C. Talbot (2003), doi:10.1016/S0031-3203(03)00136-5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Probabilities = NDArray[np.float64]
"""``(N, classes)``, each row adds up to 1."""

BLOCK, RIDGE = 2000, 0.05


def suspects(probabilities: Probabilities, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``(N,)``: whether the label of each image is contradicted with confidence."""
    sure = probabilities.round(6)
    own = sure[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=sure.shape[1])
    usual = np.where(counts > 0, np.bincount(labels, own, sure.shape[1]) / np.maximum(counts, 1), np.inf)
    best = sure.argmax(1)
    return np.asarray((best != labels) & (sure.max(1) >= usual[best]))


def out_of_fold(features: NDArray[np.floating], labels: NDArray[np.int64], classes: int) -> Probabilities:
    """For each image what a classifier says that learned from up to ``BLOCK`` others, drawn at random; no model is
    needed.  ``features`` are ``(N, D)``, of length 1."""
    found = np.full((len(labels), classes), 1 / classes)
    order = np.random.default_rng(0).permutation(len(labels))
    for part in np.array_split(order, -(-len(order) // BLOCK)):
        x = features[part].astype(np.float64)
        squares = np.maximum(2 - 2 * x @ x.T, 0)
        near = np.exp(-squares / (0.5 * np.median(squares) + 1e-12))
        wanted = np.eye(classes)[labels[part]] - 1 / classes
        inverse = cho_solve(cho_factor(near + RIDGE * np.eye(len(part))), np.eye(len(part)))
        said = wanted - (inverse @ wanted) / np.diag(inverse)[:, None] + 1 / classes
        positive = said.clip(1e-6, None)
        found[part] = positive / positive.sum(1, keepdims=True)
    return found
