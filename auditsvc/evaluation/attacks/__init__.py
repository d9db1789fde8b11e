"""Adversarial attacks: small changes of an image, chosen with knowledge of the model, that change its answer.

Every attack is a frozen value, called with ``(outputs, images, targets, seeds)``; it returns attacked images of the
same shape: the iterate that broke the image, else the best one found.  Only correctly classified images are attacked,
and a broken image leaves the batch at once.  Images are independent of each other, so neither affects the result.

All attacks run in float32 on any device, without state or global random numbers.  ``art`` wraps the Adversarial
Robustness Toolbox; the others are implemented here.
"""

from auditsvc.evaluation.attacks.apgd import Apgd, TargetedApgd
from auditsvc.evaluation.attacks.art import ArtPgd, HopSkipJump
from auditsvc.evaluation.attacks.diagnostics import beaten_by, left_standing, masking_symptoms
from auditsvc.evaluation.attacks.ensemble import AutoAttack, Budgets, Ensemble, Method, Transfer
from auditsvc.evaluation.attacks.pgd import Fgsm, MinimalNorm, Pgd
from auditsvc.evaluation.attacks.physical import Patch, Spatial, WorstCover
from auditsvc.evaluation.attacks.square import Square
from auditsvc.evaluation.attacks.target import Ball, Norm
