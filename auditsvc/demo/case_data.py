"""The cases of the demo: a published face-attribute network, digits by writer, and a detector of blood cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import InvalidInput
from auditsvc.records import Recipe

HERE = Path(__file__).parent


@dataclass(frozen=True)
class DemoCase:
    """A parent with its facts, the recipes to try on it, and what to audit the results on."""

    facts: Mapping[str, str]
    recipes: tuple[Recipe, ...]
    audited: Path
    calibration: Path
    opening: str
    parent: Callable[[Path], Path]
    """Gives the parent's folder; trains it below the given folder where it has to be made first."""
    policy: str = "standard"


def _recipes(*sparsities: float) -> tuple[Recipe, ...]:
    return tuple(Recipe(method="magnitude-global", targets={"sparsity": sparsity}) for sparsity in sparsities)


def _trained(folder: Path) -> Path:
    from auditsvc.demo.parent_models import trained_digits

    return trained_digits(folder, HERE / "digits" / "train.yaml")


_FACES = DemoCase(
    facts={
        "model": "face-gender",
        "source": "vladmandic/face-api 1.7.15, model/age_gender_model (Tiny Xception, 421,731 parameters)",
        "licence": "MIT (model/LICENSE)",
        "intended_use": "Showing what pruning does to a face-attribute model, on portraits of public officials.",
        "not_for": (
            "Any decision about a person. Guessing a recorded gender from a face can fall under the EU AI Act's rules "
            "for biometric categorisation; the portraits are of US politicians and stand for no population."
        ),
    },
    recipes=_recipes(0.3, 0.5, 0.7),
    audited=HERE / "faces" / "dataset.yaml",
    calibration=HERE / "faces" / "calibration.yaml",
    opening="A published face-attribute network (420 k parameters) and 729 official portraits.",
    parent=lambda _folder: HERE / "faces" / "model",
)

_DIGITS = DemoCase(
    facts={
        "model": "digits",
        "source": "auditsvc demo: a small convolutional network, trained here on the digits of half of the writers",
        "licence": "Apache-2.0",
        "intended_use": "Showing the audit of a small model by writer.",
        "not_for": "Any real use.",
    },
    recipes=_recipes(0.3, 0.6, 0.9),
    audited=HERE / "digits" / "dataset.yaml",
    calibration=HERE / "digits" / "train.yaml",
    opening="A small network trained now, and 5,015 digits of writers whom it never saw.",
    parent=_trained,
)

_CELLS = DemoCase(
    facts={
        "model": "blood-cells",
        "source": "auditsvc: a small detector (39,000 parameters), trained on BCCD by auditsvc.demo.parent_models",
        "licence": "Apache-2.0; trained on images under the MIT licence",
        "intended_use": "Showing what pruning does to a detector, on microscope pictures of blood.",
        "not_for": "Any use in medicine.",
    },
    recipes=_recipes(0.1, 0.4, 0.6),
    audited=HERE / "cells" / "dataset.yaml",
    calibration=HERE / "cells" / "train.yaml",
    opening="A small detector of blood cells, and 158 microscope pictures that it never saw.",
    parent=lambda _folder: HERE / "cells" / "model",
    policy="standard-detection",
)

CASES = {"faces": _FACES, "digits": _DIGITS, "cells": _CELLS}


def case_named(name: str) -> DemoCase:
    """The case of this name.

    Raises:
        InvalidInput: there is no such case.
    """
    if name not in CASES:
        raise InvalidInput(f"no demo case named {name!r}; there are: {', '.join(CASES)}")
    return CASES[name]
