"""Normalisation statistics after pruning, estimated again without labels."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from auditsvc.measuring import Dataset
from auditsvc.models import Model
from auditsvc.pruning.plan import BatchNorm

BATCH = 64


def renormalised(parent: Model, model: Model, spec: BatchNorm, data: Dataset, seed: int) -> Model:
    """The model with normalisation statistics of its own, if they bring its answers nearer to the parent's.

    New statistics rescue a damaged model and cost a healthy one a little, so they are compared first: on the second
    half of the images, by the mean difference of the softened answers to the parent's.  No label is read.
    """
    number = min(spec.images, data.ref.images)
    chosen = np.sort(np.random.default_rng(seed).permutation(data.ref.images)[:number]).astype(np.int64)
    again = Model(copy.deepcopy(model.module), model.card)
    norms = [layer for layer in again.module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        return model
    before = [(layer, layer.momentum) for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in data.batches(BATCH, chosen):
            again(batch.images)
    for layer, momentum in before:
        layer.eval()
        layer.momentum = momentum
    judged = chosen[number // 2 :]
    return again if _distance(parent, again, data, judged) < _distance(parent, model, data, judged) else model


def _distance(parent: Model, model: Model, data: Dataset, chosen: NDArray[np.int64]) -> float:
    """Mean Kullback-Leibler divergence of the model's answers from the parent's, in nats."""
    total = 0.0
    with torch.inference_mode():
        for batch in data.batches(BATCH, chosen):
            wanted, found = parent(batch.images).log_softmax(1), model(batch.images).log_softmax(1)
            total += float(functional.kl_div(found, wanted, reduction="sum", log_target=True))
    return total / len(chosen)
