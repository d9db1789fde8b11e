"""Pruning: from a parent and a recipe to smaller weights, repeatable bit for bit.

``structured-l1`` and the other criteria
    Remove whole channels; the model is smaller and faster.  Targets ``macs``, ``parameters`` or ``latency``, each a
    reduction factor.
``magnitude-global``, ``magnitude-per-layer``, ``n-m``
    Set single weights to zero; inference is not faster.  Zeros compress well, and the watermark makes the other
    weights compress worse, so the size of the compressed file is counted, not assumed.
``none``
    No pruning; for a recipe that only changes the number format.

Recovery follows each step, the number format comes last.  Two runs of one recipe are equal bit for bit on the same
machine with the same number of torch threads; without training the threads do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.models import Model, assemble
from auditsvc.ports import NoProgress, Progress
from auditsvc.pruning.ladder_search import Frontier, Ladder, Outcome, Trial, ladder, rows, sweep
from auditsvc.pruning.latency_target import concrete
from auditsvc.pruning.methods import METHODS, Work
from auditsvc.pruning.plan import Sources, recovery_of, sources_of
from auditsvc.pruning.recovery import AfterStep
from auditsvc.pruning.storage_formats import FORMATS, in_float, in_format, in_format_of
from auditsvc.records import Recipe


def prune(
    parent: Model,
    recipe: Recipe,
    data: Dataset | Sequence[Dataset] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The parent's weights, pruned by this recipe, as they are saved; the parent is left as it is.

    ``data`` are the data sets that the recipe names by digest: for recovery, for criteria that look at labelled
    images, and for the ranges of ``int8``.

    Raises:
        InvalidInput: an unknown method, targets or recovery that it does not take, data that is missing, or a
            target that is out of reach; says what would work.
        Refused: the pruned model failed verification.
        Unavailable: a library that the method needs is not installed.
    """
    weights = in_float_weights(parent, recipe, data, progress=progress)
    return formatted(assemble(weights, parent.card), recipe, data)


def in_float_weights(
    parent: Model,
    recipe: Recipe,
    data: Dataset | Sequence[Dataset] | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The first half of ``prune``: everything but the number format, so that a mark can go in between.

    Raises:
        InvalidInput, Refused, Unavailable: as ``prune``.
    """
    method = METHODS.get(recipe.method)
    if method is None:
        raise InvalidInput(f"no pruning method named {recipe.method!r}; known: {', '.join(sorted(METHODS))}")
    return method(Work(parent, recipe, recovery_of(recipe), sources_of(recipe, data), progress or NoProgress()))


def formatted(model: Model, recipe: Recipe, data: Dataset | Sequence[Dataset] | None = None) -> dict[str, Tensor]:
    """The second half of ``prune``: the model's tensors in the recipe's number format, as they are saved.

    Raises:
        InvalidInput: ``int8`` without images, or weights that the format can't hold.
    """
    if recipe.number_format is None:
        return model.weights()
    images = sources_of(recipe, data).of(None, "int8") if recipe.number_format == "int8" else None
    return in_format(model, recipe.number_format, images, recipe.seed)
