"""How anything is measured: the case, slices, pairing, statistics, chance, and the base class of checks."""

from auditsvc.measuring.case import CLEAN, Attack, Attacks, Case, Disturbance, MarkReading, Outputs
from auditsvc.measuring.check import Check
from auditsvc.measuring.dataset import MISSING, Batch, Dataset, SliceColumn, Slices, column_from
from auditsvc.measuring.identity import code_version, identity_of
from auditsvc.measuring.pairs import Answers, Pair
from auditsvc.measuring.randomness import image_seeds, normal, poisson, uniform
from auditsvc.measuring.statistics import Interval, images_needed, student, tango, wilson

__all__ = [
    "CLEAN",
    "MISSING",
    "Answers",
    "Attack",
    "Attacks",
    "Batch",
    "Case",
    "Check",
    "Dataset",
    "Disturbance",
    "Interval",
    "MarkReading",
    "Outputs",
    "Pair",
    "SliceColumn",
    "Slices",
    "code_version",
    "column_from",
    "identity_of",
    "image_seeds",
    "images_needed",
    "normal",
    "poisson",
    "student",
    "tango",
    "uniform",
    "wilson",
]
