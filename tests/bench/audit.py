"""The CPU seconds of one full audit of a candidate whose parent is already measured.

``python -m tests.bench.audit``.  5000 coloured digits of 32 pixels in 30 slices, ResNet-20 and a copy with half of
its smallest weights at zero; accuracy, exposure, occlusion, 11 corruptions, and PGD with the parameters of the shipped
policy.  The parent is
measured first, in the same process, and does not count; nor does training.
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import time

import numpy as np
import torch
from torch import nn

from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.corruption import Corruptions
from auditsvc.checks.lighting import Lighting
from auditsvc.checks.occlusion import Occlusion
from auditsvc.evaluation import EvalContext, Predictions
from auditsvc.records import OVERALL, digest_of
from tests.bench.networks import DIGITS, TASK, as_model, digits, trained
from tests.fakes.models import array_dataset

ELEVEN = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "motion_blur", "zoom_blur", "fog", "brightness",
    "contrast", "pixelate", "jpeg_compression",
)  # fmt: skip
CHECKS = (
    Accuracy(),
    Lighting(),
    Occlusion(fractions=(0.1,)),
    Corruptions(corruptions=ELEVEN, severities=(3,)),
    Adversarial(budgets=(0.25, 0.5), steps=5, images=200),
)


def pruned(network: nn.Module, share: float) -> nn.Module:
    """A copy with this share of every convolution's smallest weights at zero."""
    smaller = copy.deepcopy(network)
    for layer in smaller.modules():
        if isinstance(layer, nn.Conv2d):
            limit = layer.weight.abs().flatten().kthvalue(max(1, int(share * layer.weight.numel()))).values
            layer.weight.data.mul_(layer.weight.abs() > limit)
    return smaller


def main() -> None:
    """Run the audit twice and print the figures of the second candidate."""
    torch.set_num_threads(1)
    parent = trained("resnet20", 3, 2, robust=False)
    data = digits("audit")
    level = np.searchsorted(np.quantile(data.images.mean(dim=(1, 2, 3)), np.linspace(0, 1, 19)[1:-1]),
                            data.images.mean(dim=(1, 2, 3)))  # fmt: skip
    columns = {"digit": [str(int(t)) for t in data.targets], "source": data.source, "level": [str(v) for v in level]}
    dataset = array_dataset(data.images, data.targets.numpy(), columns, DIGITS)
    remembered: dict[str, Predictions] = {}
    for name, share in (("first", 0.3), ("second", 0.5)):
        case = EvalContext(
            candidate=as_model(pruned(parent, share)), candidate_digest=digest_of(name.encode()),
            parent=as_model(copy.deepcopy(parent)), parent_digest=digest_of(b"parent"), task=TASK, dataset=dataset,
            seed=1, alpha=0.05, cache=remembered,
        )  # fmt: skip
        wall, cpu, found = time.perf_counter(), time.process_time(), {}
        for check in CHECKS:
            start = time.process_time()
            readings = list(check.measure(case))
            found |= {reading.metric: reading.outcome for reading in readings if reading.slice == OVERALL}
            print(name, check.id, round(time.process_time() - start, 1), file=sys.stderr, flush=True)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    drops = {name: round(one.value, 4) for name, one in found.items() if name.startswith("drop.")}
    figures = {"cpu_s": round(cpu, 1), "wall_s": round(wall, 1), "peak_mb": round(peak, 1)}
    slices = len(dataset.slices.names) - 1
    print(json.dumps({**figures, "slices": slices, "images": len(data.targets), "drops": drops}, indent=2))


if __name__ == "__main__":
    main()
