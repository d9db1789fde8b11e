"""How anything is measured: the case, slices, pairing, statistics, chance, and the base class of checks."""

from auditsvc.measuring.case import Answers, Attack, Case, Disturbance, MarkReading
from auditsvc.measuring.check import Check, code_version
from auditsvc.measuring.dataset import MISSING, Batch, Dataset, SliceColumn, Slices, column_from
from auditsvc.measuring.randomness import image_seeds, normal, uniform
from auditsvc.measuring.statistics import Interval, images_needed, student, tango, wilson

__all__ = [
    "MISSING",
    "Answers",
    "Attack",
    "Batch",
    "Case",
    "Check",
    "Dataset",
    "Disturbance",
    "Interval",
    "MarkReading",
    "SliceColumn",
    "Slices",
    "code_version",
    "column_from",
    "image_seeds",
    "images_needed",
    "normal",
    "student",
    "tango",
    "uniform",
    "wilson",
]
