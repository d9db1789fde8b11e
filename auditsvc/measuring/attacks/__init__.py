"""Attacks: small changes of an image, chosen by somebody who knows the model, that turn its answer.

Every attack is a frozen value that is called with ``(outputs, images, targets, seeds)`` and gives attacked images
of the same shape: for an image that it broke, the iterate that broke it; for the others the best that it found.
Only images that the model gets right are attacked, and a broken image leaves the batch at once.  Trajectories of
images are independent of each other, so neither changes what the attack finds.

All run in float32 on the tensors they are given, on any device; no attack keeps state or depends on global chance.
The loops are our own but for ``toolbox``, which brings in the Adversarial Robustness Toolbox.
"""

from auditsvc.measuring.attacks.apgd import Apgd, TargetedApgd
from auditsvc.measuring.attacks.ball import Ball, Norm
from auditsvc.measuring.attacks.covering import WorstCover
from auditsvc.measuring.attacks.ensemble import AutoAttack, Budgets, Method
from auditsvc.measuring.attacks.gradient import Fgsm, Pgd
from auditsvc.measuring.attacks.minimal import MinimalNorm
from auditsvc.measuring.attacks.patch import Patch
from auditsvc.measuring.attacks.spatial import Spatial
from auditsvc.measuring.attacks.square import Square
from auditsvc.measuring.attacks.strength import outdone, weaknesses
from auditsvc.measuring.attacks.toolbox import HopSkipJump, ToolboxPgd

__all__ = [
    "Apgd",
    "AutoAttack",
    "Ball",
    "Budgets",
    "Fgsm",
    "HopSkipJump",
    "Method",
    "MinimalNorm",
    "Norm",
    "Patch",
    "Pgd",
    "Spatial",
    "Square",
    "TargetedApgd",
    "ToolboxPgd",
    "WorstCover",
    "outdone",
    "weaknesses",
]
