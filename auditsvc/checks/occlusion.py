"""Robustness to occlusion: part of each image is hidden.

Pruning removes redundancy, and redundancy is what makes a network robust to occlusion; clean accuracy does not show
the loss.  Random covers are drawn once from each image's seed, so a run costs one forward pass per model and
fraction, and is repeatable.  They represent ordinary clutter; ``worst`` searches for the most harmful place instead.

Reference: see ``auditsvc.evaluation.perturbations.covering``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from auditsvc.evaluation import EvalContext
from auditsvc.evaluation.attacks import WorstCover
from auditsvc.evaluation.metrics.severity_curve import Axis, SweptCheck, axis_of
from auditsvc.evaluation.perturbations.covering import hide_cells, hide_edge, hide_object, hide_square, hide_texture
from auditsvc.records import Condition, Family, Metric, Reading, paired_metrics

Fraction = Annotated[float, Field(gt=0, lt=1)]
Cover = Literal["square", "grid", "texture", "object", "edge"]


def _family(name: str, title: str, how: str) -> Family:
    words = f"{{}} % of the image hidden{how}"
    return Family(name=f"occlusion.{name}", title=title, axis="share of the image hidden", words=words, percent=True)


_FAMILIES: dict[Cover, Family] = {
    "square": _family("square", "Part of the image hidden", ""),
    "grid": _family("grid", "Cells of a grid hidden", ", in cells of a grid"),
    "texture": _family("texture", "Part of the image shuffled", " by its own texture"),
    "object": _family("object", "A round object in front", " by a round object"),
    "edge": _family("edge", "An edge hidden", " at an edge"),
}
_WORST = _family("worst", "The worst place hidden", " at the worst place")

_STREAMS: dict[Cover, str] = {
    "square": "hidden",
    "grid": "cells",
    "texture": "texture",
    "object": "object",
    "edge": "edge",
}
"""The names from which the random places are drawn.  They are those of version 0.1.0, so that the same seed hides the
same places as it did there."""


class Occlusion(SweptCheck):
    """Hide part of each image and compare candidate with parent.

    Emits ``score.occlusion.K@F``, ``parent.`` and ``drop.`` for every kind of cover ``K`` and hidden fraction ``F`` of
    the area: ``square`` (one grey square), ``grid`` (grey cells of a grid), ``texture`` (the image's own pixels,
    shuffled), ``object`` (a round shape), ``edge`` (a bar along one side); and ``worst``, for each model the worst
    place of a grey square, with at most ``tries`` tries on ``images`` images.  With ``curve`` also ``area``,
    ``area_loss`` and ``failure_severity`` over the hidden fraction; ``floor`` is the score that must hold.
    """

    id = "occlusion"
    version = 1
    topics = frozenset({"robust.occlusion"})

    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.1, 0.25)
    covers: Annotated[tuple[Cover, ...], Field(min_length=1)] = ("square",)
    worst: tuple[Fraction, ...] = ()
    tries: Annotated[int, Field(ge=1, le=100_000)] = 32
    images: Annotated[int, Field(ge=1)] = 256
    grey: Annotated[float, Field(ge=0, le=1)] = 0.5

    def families(self) -> tuple[Family, ...]:
        """One for each cover."""
        return (*super().families(), *((_WORST,) if self.worst else ()))

    def conditions(self) -> tuple[Condition, ...]:
        """One for each cover and fraction: ``occlusion.square@0.25``."""
        return (*super().conditions(), *self._searched())

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, and the curves'."""
        return (*super().metrics(), *paired_metrics(self._searched()))

    def cost(self) -> float:
        """One pass for each random cover, ``tries`` and a gradient for each searched one."""
        return float(len(self.covers) * len(self.fractions) + (self.tries + 3) * len(self.worst))

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each cover and fraction, then search."""
        yield from super().measure(case)
        for condition, fraction in zip(self._searched(), self.worst, strict=True):
            yield from case.compare_attacked(
                condition.name, WorstCover(case.task, fraction, self.grey, self.tries), self.images
            )

    def _searched(self) -> tuple[Condition, ...]:
        """The conditions whose place is searched for."""
        return tuple(_WORST.condition(fraction) for fraction in self.worst)

    def axes(self) -> tuple[Axis, ...]:
        """Every cover with its fractions."""
        makers: dict[str, Callable[..., Tensor]] = {
            "square": partial(hide_square, grey=self.grey),
            "grid": partial(hide_cells, grey=self.grey),
            "texture": hide_texture,
            "object": partial(hide_object, grey=self.grey),
            "edge": partial(hide_edge, grey=self.grey),
        }
        return tuple(
            axis_of(
                _FAMILIES[cover],
                stream=_STREAMS[cover],
                makers={f: (f, partial(makers[cover], fraction=f)) for f in self.fractions},
            )
            for cover in self.covers
        )
