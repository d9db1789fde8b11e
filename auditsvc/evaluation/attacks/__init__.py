"""Attacks: small changes of an image, chosen by somebody who knows the model, that turn its answer.

Every attack is a frozen value that is called with ``(outputs, images, targets, seeds)`` and gives attacked images
of the same shape: for an image that it broke, the iterate that broke it; for the others the best that it found.
Only images that the model gets right are attacked, and a broken image leaves the batch at once.  Trajectories of
images are independent of each other, so neither changes what the attack finds.

All run in float32 on the tensors they are given, on any device; no attack keeps state or depends on global chance.
The loops are our own but for ``toolbox``, which brings in the Adversarial Robustness Toolbox.
"""

from auditsvc.evaluation.attacks.apgd import Apgd, TargetedApgd
from auditsvc.evaluation.attacks.art import ArtPgd, HopSkipJump
from auditsvc.evaluation.attacks.diagnostics import beaten_by, masking_symptoms
from auditsvc.evaluation.attacks.ensemble import AutoAttack, Budgets, Method
from auditsvc.evaluation.attacks.pgd import Fgsm, MinimalNorm, Pgd
from auditsvc.evaluation.attacks.physical import Patch, Spatial, WorstCover
from auditsvc.evaluation.attacks.square import Square
from auditsvc.evaluation.attacks.target import Ball, Norm

__all__ = [
    "Apgd",
    "ArtPgd",
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
    "WorstCover",
    "beaten_by",
    "masking_symptoms",
]
