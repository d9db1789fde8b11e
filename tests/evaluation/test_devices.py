"""What an accelerator answers is what the processor answers, but for the last digits."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch

import auditsvc
from auditsvc.checks.accuracy import Accuracy
from auditsvc.checks.adversarial import Adversarial
from auditsvc.checks.average_precision import AveragePrecision
from auditsvc.checks.calibration import Calibration
from auditsvc.checks.corruption import Corruptions
from auditsvc.checks.domain_shift import DomainShift
from auditsvc.checks.lighting import Lighting
from auditsvc.checks.object_detection import ObjectDetection
from auditsvc.checks.occlusion import Occlusion
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.sequential import Staged
from auditsvc.models import Model, assemble, load_model
from auditsvc.models.devices import device_named, device_words
from auditsvc.records import Measured, digest_of
from auditsvc.tasks import task_named

DEMO = Path(auditsvc.__file__).parent / "demo"
IMAGES = 96
CHECKS: tuple[Check, ...] = (
    Accuracy(),
    Occlusion(fractions=(0.1,)),
    Lighting(exposure_stops=(-2.0, 1.0), gammas=(0.7,), kelvins=(3000.0,), low_light_stops=(-3.0,), shadow_stops=(2.0,),
             uneven_stops=(1.0,), glare_peaks=(2.0,), backlight_stops=(1.0,), flicker_depths=(0.5,)),
    Corruptions(severities=(3,)),
    DomainShift(),
)  # fmt: skip
OF_CLASSES: tuple[Check, ...] = (Calibration(draws=200, min_images=50), Adversarial(budgets=(0.5,), images=48))
OF_BOXES: tuple[Check, ...] = (
    ObjectDetection(draws=200),
    AveragePrecision(draws=200),
    Adversarial(budgets=(0.5,), images=16, steps=3),
)


def test_devices_that_are_not_there_are_refused() -> None:
    assert device_named("cpu") == "cpu" == device_words("cpu")
    with pytest.raises(InvalidInput, match="no device 'tpu'"):
        device_named("tpu")
    if not torch.cuda.is_available():
        assert device_named("auto") == "cpu"
        with pytest.raises(Unavailable, match="is not on this machine"):
            device_named("cuda")


def pruned(model: Model) -> Model:
    """The model without its smallest weights."""
    weights = {
        name: torch.where(tensor.abs() < tensor.abs().quantile(0.2), 0.0, tensor) if tensor.dim() > 1 else tensor
        for name, tensor in model.weights().items()
    }
    return assemble(weights, model.card)


def case_on(device: str, folder: Path, data: Path) -> EvalContext:
    whole = DatasetReaders().open(data)
    dataset = Staged(whole, np.arange(whole.ref.images), IMAGES)
    parent = load_model(folder)
    return EvalContext(
        candidate=pruned(parent).on(device), candidate_digest=digest_of(b"candidate"), parent=parent.on(device),
        parent_digest=digest_of(b"parent"), task=task_named(whole.ref.task, whole.classes), dataset=dataset, seed=7,
        alpha=0.05, device=device,
    )  # fmt: skip


CASES = {"faces": (DEMO / "faces" / "model", DEMO / "faces"), "cells": (DEMO / "cells" / "model", DEMO / "cells")}


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_readings_on_an_accelerator_are_those_of_the_processor(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no accelerator on this machine")
    device = device_named("cuda")
    cases = [case_on(where, *CASES[name]) for where in ("cpu", device)]
    for check in (*CHECKS, *(OF_CLASSES if name == "faces" else OF_BOXES)):
        found, took = [], []
        for case in cases:
            started = time.perf_counter()
            found.append({(one.metric, one.slice): one.outcome for one in check.measure(case)})
            took.append(time.perf_counter() - started)
        print(f"{name} {check.id}: {took[0]:.2f} s on the processor, {took[1]:.2f} s on {device_words(device)}")
        assert found[0].keys() == found[1].keys()
        for key, one in found[0].items():
            other = found[1][key]
            assert type(one) is type(other), (check.id, key, one, other)
            if (
                isinstance(one, Measured)
                and isinstance(other, Measured)
                and not key[0].startswith(("failure_severity", "parent_failure"))
            ):
                near = 0.15 if check.id == "corruption" and "mce" in key[0].lower() else 0.035
                assert abs(one.value - other.value) <= near, (check.id, key, one.value, other.value)
