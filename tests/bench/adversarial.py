"""Robust accuracy and cost of our ensemble and PGD beside fra31's AutoAttack, torchattacks and ART, in one run.

``python -m tests.bench.adversarial [--images 200]``.  The reference implementation of AutoAttack is on no package
index: ``AUTO_ATTACK_DIR`` names a checkout of github.com/fra31/auto-attack; without it its keys are left out, and
so are those of ART and torchattacks where they are not installed.  Cost is CPU time of this process in one thread,
in seconds for 1000 images, because wall time measures the machine's other work too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.evaluation import image_seeds
from auditsvc.evaluation.attacks import AutoAttack, Ball, Pgd
from auditsvc.evaluation.inference import fold_batchnorm
from tests.bench.networks import TASK, Digits, as_model, digits, robust_network, standard_network

RADIUS = 8 / 255


@dataclass(frozen=True)
class Found:
    """How many images stand after an attack, and what it cost for 1000 images."""

    robust: int
    images: int
    seconds: float

    def row(self) -> dict[str, float]:
        """For the table."""
        return {"robust": self.robust / self.images, "images": self.images, "cpu_s_per_1000": round(self.seconds, 2)}


def timed(network: nn.Module, data: Digits, images: int, attack: Callable[[Tensor, Tensor], Tensor]) -> Found:
    """Attack the first images; the verdict is the network's own."""
    some, targets = data.images[:images], data.targets[:images]
    start = time.process_time()
    attacked = attack(some, targets)
    seconds = (time.process_time() - start) * 1000 / images
    if float((attacked - some).abs().max()) > RADIUS + 1e-5:
        raise ValueError("the attack left its ball")
    with torch.no_grad():
        standing = network(attacked).argmax(1) == targets
    return Found(int(standing.sum()), images, seconds)


def ours(network: nn.Module, *, steps: int | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Our ensemble, or PGD where ``steps`` is given, with the product's preparation of the model."""

    def attack(images: Tensor, targets: Tensor) -> Tensor:
        quick, ball = fold_batchnorm(as_model(network)), Ball("Linf", RADIUS)
        seeds = image_seeds(1, "attack", torch.arange(len(targets)))
        return (Pgd(TASK, ball, steps) if steps else AutoAttack(TASK, ball))(quick, images, targets, seeds)

    return attack


def plain(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """PGD-10 as it is written on a blackboard."""

    def attack(images: Tensor, targets: Tensor) -> Tensor:
        parts = []
        for some, wanted in zip(images.split(250), targets.split(250), strict=True):
            moved = (some + RADIUS * (2 * torch.rand_like(some) - 1)).clamp(0, 1)
            for _ in range(10):
                moved = moved.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(nn.functional.cross_entropy(network(moved), wanted), moved)
                moved = (moved.detach() + RADIUS / 4 * slope.sign()).clamp(0, 1)
                moved = torch.minimum(torch.maximum(moved, some - RADIUS), some + RADIUS).clamp(0, 1)
            parts.append(moved.detach())
        return torch.cat(parts)

    return attack


def fra31(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The authors' standard AutoAttack, from the checkout in ``AUTO_ATTACK_DIR``."""
    folder = os.environ.get("AUTO_ATTACK_DIR")
    if not folder:
        return None
    sys.path.insert(0, folder)
    maker = importlib.import_module("autoattack").AutoAttack

    def attack(images: Tensor, targets: Tensor) -> Tensor:
        theirs = maker(network, norm="Linf", eps=RADIUS, version="standard", device="cpu", verbose=False, seed=1)
        return theirs.run_standard_evaluation(images, targets, bs=250)

    return attack


def torchattacks(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """torchattacks' standard AutoAttack."""
    try:
        package = importlib.import_module("torchattacks")
    except ImportError:
        return None
    return lambda images, targets: package.AutoAttack(network, eps=RADIUS, n_classes=10, seed=1)(images, targets)


def art(network: nn.Module, *, ensemble: bool) -> Callable[[Tensor, Tensor], Tensor] | None:
    """ART's AutoAttack with its own defaults, or its PGD-10."""
    try:
        evasion = importlib.import_module("art.attacks.evasion")
        estimators = importlib.import_module("art.estimators.classification")
    except ImportError:
        return None

    def attack(images: Tensor, targets: Tensor) -> Tensor:
        wrapped = estimators.PyTorchClassifier(
            network, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0, 1), device_type="cpu"
        )
        if ensemble:
            theirs = evasion.AutoAttack(wrapped, eps=RADIUS, eps_step=2 * RADIUS, batch_size=250)
        else:
            theirs = evasion.ProjectedGradientDescent(
                wrapped, eps=RADIUS, eps_step=RADIUS / 4, max_iter=10, batch_size=250, verbose=False
            )
        return torch.from_numpy(theirs.generate(images.numpy(), np.eye(10, dtype=np.float32)[targets.numpy()]))

    return attack


def main() -> None:
    """Run all and print one JSON object."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--art-images", type=int, default=40, help="ART's ensemble takes an hour for 200")
    given = options.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    data = digits("audit")
    table: dict[str, dict[str, float]] = {}
    found: dict[str, Found] = {}

    def run(name: str, network: nn.Module, images: int, attack: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        if attack is not None:
            found[name] = timed(network, data, images, attack)
            table[name] = found[name].row()
            print(name, table[name], file=sys.stderr, flush=True)

    for kind, make in (("std", standard_network), ("adv", robust_network)):
        network = make().requires_grad_(False)
        run(f"ours pgd10 {kind}", network, given.images, ours(network, steps=10))
        run(f"plain pgd10 {kind}", network, given.images, plain(network))
        run(f"art pgd10 {kind}", network, given.images, art(network, ensemble=False))
        run(f"ours {kind}", network, given.images, ours(network))
        run(f"fra31 {kind}", network, given.images, fra31(network))
        if kind == "std":
            run("torchattacks std", network, given.images, torchattacks(network))
            run("art std", network, given.art_images, art(network, ensemble=True))
    print(json.dumps({**keys(found), "table": table}, indent=2))


def keys(found: dict[str, Found]) -> dict[str, float]:
    """The figures that are held to a bar; those whose peer was not there are left out."""
    result: dict[str, float] = {}
    for kind in ("std", "adv"):
        if f"fra31 {kind}" in found:
            result[f"robust_diff_images_{kind}"] = found[f"ours {kind}"].robust - found[f"fra31 {kind}"].robust
    for key, mine, theirs in (
        ("cpu_ratio_fra31_std", "ours std", "fra31 std"),
        ("cpu_ratio_fra31_adv", "ours adv", "fra31 adv"),
        ("cpu_ratio_art_std", "ours std", "art std"),
        ("cpu_ratio_torchattacks_std", "ours std", "torchattacks std"),
        ("pgd10_ratio_art", "ours pgd10 std", "art pgd10 std"),
    ):
        if mine in found and theirs in found:
            result[key] = round(found[mine].seconds / found[theirs].seconds, 4)
    return result


if __name__ == "__main__":
    main()
