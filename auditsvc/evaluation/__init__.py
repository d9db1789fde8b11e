"""Evaluation: context, slices, paired comparison, statistics, seeds, and the base class of checks."""

from auditsvc.evaluation.check import Check, Run
from auditsvc.evaluation.context import (
    CLEAN,
    Attack,
    Attacks,
    DataFacts,
    Disturbance,
    EvalContext,
    Outputs,
    WatermarkReading,
)
from auditsvc.evaluation.fingerprint import code_version, fingerprint
from auditsvc.evaluation.intervals import Interval, images_needed, student, tango, wilson
from auditsvc.evaluation.paired import Pair, Predictions
from auditsvc.evaluation.randomness import image_seeds, normal, poisson, uniform
