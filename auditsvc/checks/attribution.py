"""Do candidate and parent base the same answer on the same pixels?

Accuracy can hold while a pruned network decides by other parts of the image.  Integrated gradients of the parent's
answer give one map of each image for each model; ``similarity`` is their rank correlation.

A map means nothing where it does not depend on what the network learnt: edges alone give plausible pictures.  So the
same maps are made of the candidate with the weights of every layer shuffled; where they are still like the candidate's
own, nothing is stated.  The maps say where an answer comes from, not why, and not that it should.

Reference: M. Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks", arXiv:1703.01365; J. Adebayo et al.
(2018), "Sanity Checks for Saliency Maps", arXiv:1810.03292.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

from auditsvc.errors import Refused
from auditsvc.evaluation import Check, EvalContext, Outputs
from auditsvc.evaluation.attacks.trigger import answers
from auditsvc.evaluation.inference import fold_batchnorm
from auditsvc.models import Model
from auditsvc.records import OVERALL, Metric, Reading, TaskName, Unmeasured

INSENSITIVE = 0.5
"""A mean rank correlation with the maps of shuffled weights from which on the maps say nothing of what was learnt."""
SHOWN, CONDITION, FLAT = 3, "image_map_of_parent_map_of_candidate", "a map is flat for every image"

_METRICS = (
    Metric(id="similarity", kind="quantity", better="higher",
           title="rank correlation of the pixels that parent and candidate base the parent's answer on"),
    Metric(id="sanity", kind="quantity", better="lower",
           title="rank correlation of the candidate's maps with those of its shuffled weights"),
)  # fmt: skip


class Attribution(Check):
    """Compare the integrated gradients of candidate and parent.

    Emits on ``overall``: ``similarity`` (mean rank correlation of both maps, -1..1) and ``sanity`` (that of the
    candidate's maps with the maps of its shuffled weights).  Images whose answer changed are shown with both maps.
    """

    id = "attribution"
    version = 1
    tasks = frozenset[TaskName]({"classification"})
    topics = frozenset({"explain.attribution"})

    images: Annotated[int, Field(ge=10, le=10_000)] = 40
    steps: Annotated[int, Field(ge=2, le=200)] = 8

    def metrics(self) -> tuple[Metric, ...]:
        """Similarity and its sanity check."""
        return _METRICS

    def cost(self) -> float:
        """Gradients of three models at every step."""
        return 3.0 * self.steps

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Map the images by three networks, and correlate."""
        try:
            shuffled = _shuffled(case.candidate, case.seed)
            models = [fold_batchnorm(one) for one in (case.parent, case.candidate, shuffled)]
        except Refused as error:
            yield from self.unmeasured(f"maps need gradients: {error}")
            return
        numbers, found = [], []
        for batch in case.batches(case.sample(self.images)):
            own, answer = (answers(one, batch.images) for one in (case.parent, case.candidate))
            maps = [self._maps(one, batch.images, own) for one in models]
            for place in torch.nonzero(own != answer).flatten().tolist()[: max(0, SHOWN - len(case.flips))]:
                shown = [batch.images[place], *(_picture(one[place], batch.images) for one in maps[:2])]
                pair = case.dataset.classes[int(own[place])], case.dataset.classes[int(answer[place])]
                case.show(int(batch.indices[place]), CONDITION, pair, torch.cat(shown, dim=2))
            found += [_correlations(*(one[place] for one in maps)) for place in range(len(own))]
            numbers.append(batch.indices)
        rows = torch.tensor(found, dtype=torch.float64)
        known = ~rows.isnan().any(1)
        used = torch.cat(numbers).cpu()[known]
        similarity, sanity = (case.mean(rows[known, column], used, FLAT) for column in (0, 1))
        if isinstance(sanity, Unmeasured) or sanity.value >= INSENSITIVE:
            similarity = Unmeasured(reason="the maps do not depend on what the candidate learnt", images=len(rows))
        yield Reading(metric="similarity", slice=OVERALL, outcome=similarity)
        yield Reading(metric="sanity", slice=OVERALL, outcome=sanity)

    def _maps(self, model: Outputs, images: Tensor, aims: Tensor) -> Tensor:
        """``(N, H, W)``: how much each pixel adds to the logit of the aim, or takes from it, from grey on."""
        total, start = torch.zeros_like(images), torch.full_like(images, 0.5)
        for step in range(self.steps):
            with torch.inference_mode(mode=False), torch.enable_grad():
                seen = (start + (step + 0.5) / self.steps * (images - start)).clone().requires_grad_()
                height = model(seen).gather(1, aims[:, None].clone()).sum()
                (slope,) = torch.autograd.grad(height, seen, allow_unused=True)
            total += 0 if slope is None else slope
        return (total * (images - start)).sum(1)


def _shuffled(model: Model, seed: int) -> Model:
    """The model with the weights of each layer in random order: the same values, and nothing learnt.

    Raises:
        Refused: a file that can't be converted to layers.
    """
    layers = model.layers
    module, draw = copy.deepcopy(layers.module), torch.Generator().manual_seed(seed)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() > 1:
            order = torch.randperm(tensor.numel(), generator=draw).to(tensor.device)
            tensor.data = tensor.flatten()[order].view(tensor.shape)
    return Model(module, layers.card)


def _correlations(parent: Tensor, candidate: Tensor, shuffled: Tensor) -> tuple[float, float]:
    """Spearman's, of maps averaged to at most 16 x 16 places; NaN where a map is flat."""
    pool = torch.nn.AdaptiveAvgPool2d(tuple(min(16, side) for side in parent.shape))
    flat = [pool(one[None])[0].flatten().cpu().numpy() for one in (parent, candidate, shuffled)]
    if min(float(np.ptp(one)) for one in flat) == 0:
        return float("nan"), float("nan")
    own, other = (float(stats.spearmanr(flat[1], one).statistic) for one in (flat[0], flat[2]))
    return own, other


def _picture(of: Tensor, like: Tensor) -> Tensor:
    """The size of one map in 0..1, in as many channels as the images."""
    return (of.abs() / of.abs().max().clamp(min=1e-12)).expand(like.shape[1], -1, -1)
