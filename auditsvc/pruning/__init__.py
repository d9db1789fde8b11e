"""Pruning: a dense parent and a recipe in, smaller weights out.  The same recipe gives the same bits.

Each family of methods is one file; a recipe names a method of one of them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.pruning.unstructured import magnitude_global, magnitude_per_layer
from auditsvc.records import Recipe

METHODS: dict[str, Callable[[Model, Recipe], dict[str, Tensor]]] = {
    "magnitude-global": magnitude_global,
    "magnitude-per-layer": magnitude_per_layer,
}


def prune(parent: Model, recipe: Recipe) -> dict[str, Tensor]:
    """The parent's weights, pruned by this recipe; the parent is left as it is.

    Raises:
        InvalidInput: an unknown method, or targets that it does not take.
    """
    method = METHODS.get(recipe.method)
    if method is None:
        raise InvalidInput(f"no pruning method named {recipe.method!r}; known: {', '.join(sorted(METHODS))}")
    return method(parent, recipe)


__all__ = ["METHODS", "prune"]
