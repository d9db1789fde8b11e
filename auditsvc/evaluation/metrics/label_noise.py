"""Labels that are probably wrong, by confident learning.

How many labels of each class are wrong is estimated first; the suspects are that many images, those that the
probabilities contradict most ("prune by noise rate").  The probabilities have to be of a model that did not learn from
these labels: the parent's on images that it was not trained on, or those of ``out_of_fold``.  What such a model
confuses with confidence counts as a wrong label too, so the share of suspects is as good as the model.

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
    """``(N,)``: as many images of each class as its noise rate says, those whose label is contradicted most.

    A class counts for an image if it is as likely as it is on average among the images that are labelled so; the
    likeliest of these against the label, scaled to the number of labels, gives the noise rates.
    """
    sure, images = probabilities.round(6), np.arange(len(labels))
    classes, own = sure.shape[1], sure[images, labels]
    counts = np.bincount(labels, minlength=classes)
    usual = np.where(counts > 0, np.bincount(labels, own, classes) / np.maximum(counts, 1), np.inf)
    counted = np.where(sure >= usual, sure, -1.0)
    known = counted.max(1) >= 0
    joint = np.bincount(labels[known] * classes + counted[known].argmax(1), minlength=classes**2).reshape(classes, -1)
    wrong = np.rint(joint * (counts / np.maximum(joint.sum(1), 1))[:, None]).astype(int)
    found, best = np.zeros(len(labels), bool), sure.argmax(1)
    for label, other in zip(*np.nonzero(wrong), strict=True):
        places = np.flatnonzero((labels == label) & (best != label)) if label != other else images[:0]
        order = np.argsort(sure[places, label] - sure[places, other], kind="stable")
        found[places[order[: wrong[label, other]]]] = True
    return found


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
