"""Typed and validated recipe parameters; every fault is listed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.records import Digest, Recipe, Value, faults_of

Share = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(gt=1, le=1000)]
Count = Annotated[int, Field(ge=1)]


class _Targets(Value):
    """Numbers of a method; JSON has one kind of number, so 8.0 is a whole number too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=False)


class Sparsity(_Targets):
    """Unstructured: the share of zeros, reached in ``steps`` by a cubic schedule."""

    sparsity: Share
    steps: Count = 1


class NofM(_Targets):
    """``keep`` of every ``of`` consecutive input channels stay."""

    keep: Count
    of: Annotated[int, Field(ge=2, le=64)]


class Channels(_Targets):
    """Structured pruning: the factor by which MACs, parameters or latency fall; exactly one of the three.

    ``round_to``: kept channels are a multiple of it.  ``steps``: how often importance is measured anew, with a part
    of the recovery in between.  ``everywhere``: 1 ranks the channels of all layers together, 0 takes the same share
    of each.  ``most``: no layer loses more than this share.
    """

    macs: Factor | None = None
    parameters: Factor | None = None
    latency: Factor | None = None
    round_to: Annotated[int, Field(ge=1, le=256)] = 8
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    everywhere: Literal[0, 1] = 1
    most: Share = 0.9

    @property
    def goal(self) -> tuple[str, float]:
        """What is to shrink, and how many times."""
        given = [(name, value) for name in ("macs", "parameters", "latency") if (value := getattr(self, name))]
        if len(given) != 1:
            raise InvalidInput("structured pruning takes exactly one of the targets macs, parameters, latency")
        return given[0]


class Nothing(_Targets):
    """No target: the number format alone changes."""


class BatchNorm(Value):
    """Normalisation statistics are estimated again on this many unlabelled images, and used if they help."""

    images: Annotated[int, Field(ge=2)] = 1024
    data: Digest | None = None


class Training(Value):
    """Stochastic gradient descent with momentum and a cosine schedule; zeros stay zeros.

    ``shift`` (pixels) and ``flip`` move the training images; a flip is for images whose mirror image means the same.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    batch: Annotated[int, Field(ge=2, le=65536)] = 64
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    decay: Annotated[float, Field(ge=0, le=0.1)] = 5e-4
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    data: Digest | None = None


class Distillation(Training):
    """Training on the parent's answers, softened by ``temperature``: ``share`` of the loss; labels the rest."""

    temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.9


class Recovery(Value):
    """What is done after pruning to win accuracy back."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    batch_norm: BatchNorm | None = Field(default=None, alias="batch-norm")
    fine_tune: Training | None = Field(default=None, alias="fine-tune")
    distillation: Distillation | None = None

    @property
    def training(self) -> Training | None:
        """The training, of whichever kind."""
        return self.distillation or self.fine_tune


@dataclass(frozen=True)
class Sources:
    """The data sets at hand; a recipe names one by its digest."""

    sets: tuple[Dataset, ...]
    default: Digest | None

    def of(self, digest: Digest | None, purpose: str) -> Dataset:
        """The data set with this digest, else the recipe's own.

        Raises:
            InvalidInput: none was named, or the one that was named was not given.
        """
        wanted = digest or self.default
        if wanted is None:
            raise InvalidInput(f"{purpose} needs data: give the recipe the digest of a data set")
        for dataset in self.sets:
            if dataset.ref.digest == wanted:
                return dataset
        given = ", ".join(dataset.ref.digest for dataset in self.sets) or "none"
        raise InvalidInput(f"{purpose} needs the data set {wanted}; given: {given}")


def sources_of(recipe: Recipe, data: Dataset | Sequence[Dataset] | None) -> Sources:
    """The data sets that were given, as the recipe names them."""
    given = () if data is None else tuple(data) if isinstance(data, Sequence) else (data,)
    return Sources(given, recipe.data)


def targets_of(recipe: Recipe, kind: type[_Targets]) -> _Targets:
    """The recipe's targets as this method understands them.

    Raises:
        InvalidInput: with every fault.
    """
    try:
        return kind.model_validate(recipe.targets)
    except ValidationError as error:
        raise InvalidInput(f"{recipe.method} does not take the targets {recipe.targets}", faults_of(error)) from error


def recovery_of(recipe: Recipe) -> Recovery:
    """The recipe's recovery.

    Raises:
        InvalidInput: with every fault.
    """
    try:
        recovery = Recovery.model_validate(recipe.recovery)
    except ValidationError as error:
        raise InvalidInput(f"{recipe.method}: the recovery can't be used", faults_of(error)) from error
    if recovery.fine_tune and recovery.distillation:
        raise InvalidInput("choose fine-tune or distillation; distillation sees the labels too")
    return recovery
