"""Coupled channels and whether they can be removed: found by tracing, verified by running.

The convolution that produces a channel, its normalisation and every layer that reads it lose the channel together;
Torch-Pruning's dependency graph finds them.  Where a network splits its channels, hard-codes their number or
normalises across them, the graph can be wrong without an error.  So each set of coupled channels is verified before
use: removing some of them must give the same answers as masking them with zeros.  Sets that fail are excluded from
pruning, with the reason.

Reference: G. Fang et al. (2023), "DepGraph: Towards Any Structural Pruning", arXiv:2301.12900.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.models import Model
from auditsvc.pruning.channel_removal import RemovedChannels, differs, mask_channels, remove_channels, with_weights

PROBE_IMAGES = 3


@dataclass(frozen=True)
class Cut:
    """One dimension of one tensor that loses entries: position ``places[i]`` goes with channel ``channels[i]``."""

    tensor: str
    dimension: int
    places: Tensor
    channels: Tensor


@dataclass(frozen=True)
class Coupled:
    """Channels that go together through several layers.

    ``parts`` is the number of equal runs (groups of a convolution, heads of an attention): the same place
    of every run must go at once, and such a set of places is one *unit*.
    """

    name: str
    channels: int
    parts: int
    cuts: tuple[Cut, ...]

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.channels // self.parts

    def removals(self, units: Tensor) -> RemovedChannels:
        """What to remove from which tensors when these units go."""
        gone = torch.zeros(self.parts, self.units, dtype=torch.bool)
        gone[:, units] = True
        channels = gone.flatten()
        return {(cut.tensor, cut.dimension): torch.unique(cut.places[channels[cut.channels]]) for cut in self.cuts}


@dataclass(frozen=True)
class DependencyGraph:
    """All coupled channels that are proved safe to remove, and why the others are left alone."""

    coupled: tuple[Coupled, ...]
    left_alone: tuple[str, ...]


def dependency_graph_of(model: Model) -> DependencyGraph:
    """Trace the model and try every set of coupled channels.

    Raises:
        InvalidInput: the model can't be traced.
        Unavailable: Torch-Pruning is not installed (the extra ``prune``).
    """
    spec = model.card.input
    size = (PROBE_IMAGES, spec.channels, spec.height, spec.width)
    images = torch.rand(size, generator=torch.Generator().manual_seed(0))
    good: list[Coupled] = []
    reasons: list[str] = []
    lively = _lively(model)
    for found in _traced(model):
        try:
            good.append(_proved(lively, found, images))
        except _Unfit as error:
            reasons.append(f"{found.name}: {error}")
    return DependencyGraph(tuple(good), tuple(reasons))


class _Unfit(Exception):
    """Why a set of coupled channels is left alone; never leaves this file."""


@dataclass(frozen=True)
class _Traced:
    """Coupled channels as the graph sees them, with every number of parts that might be meant."""

    name: str
    channels: int
    cuts: tuple[Cut, ...]
    parts: tuple[int, ...]
    fault: str | None


def _lively(model: Model) -> Model:
    """A copy in which no branch is silent: a scale that is zero everywhere would make every proof about it hold."""
    weights = model.weights()
    norms = [path for path, layer in model.module.named_modules() if isinstance(layer, _BatchNorm)]
    silent = [name for name in (f"{path}.weight" for path in norms) if name in weights and not weights[name].any()]
    return with_weights(model, weights | {name: torch.ones_like(weights[name]) for name in silent})


def _traced(model: Model) -> Iterator[_Traced]:
    try:
        import torch_pruning
    except ImportError as error:
        raise Unavailable('structured pruning needs Torch-Pruning: pip install "auditsvc[prune]"') from error
    module = copy.deepcopy(model.module).requires_grad_(True)
    spec = model.card.input
    try:
        with torch.enable_grad(), _made_by_layers(module) as made:
            graph = torch_pruning.DependencyGraph().build_dependency(
                module,
                torch.rand(1, spec.channels, spec.height, spec.width),
                output_transform=lambda _answers: made[::-1],
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        raise InvalidInput(
            f"the wiring of {model.card.architecture} can't be traced ({str(error)[:200]}); "
            "magnitude-global, n-m and int8 need no wiring and still work"
        ) from error
    names = {layer: path for path, layer in module.named_modules()}
    for group in graph.get_all_groups():
        yield _translated(group, names)


@contextmanager
def _made_by_layers(module: nn.Module) -> Iterator[list[Tensor]]:
    """What the layers with weights give while it runs, in their order.

    The graph starts from these and not from the answers: behind the last layer channels mean nothing any more, and a
    detector's boxes, places and scales there take the graph minutes.
    """
    made: list[Tensor] = []
    layers = [layer for layer in module.modules() if isinstance(layer, _ConvNd | nn.Linear | _BatchNorm)]
    hooks = [layer.register_forward_hook(lambda _layer, _given, found: made.append(found)) for layer in layers]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()


def _translated(group: Any, names: dict[nn.Module, str]) -> _Traced:
    """The graph's group in our words: tensors, dimensions, positions."""
    layers = [(dep.target.module, dep, group[place]) for place, (dep, _) in enumerate(group)]
    layers = [(layer, dep, item) for layer, dep, item in layers if not type(layer).__name__.startswith("_")]
    cuts: list[Cut] = []
    fault: str | None = None
    for layer, dep, item in layers:
        made = _cuts(layer, names.get(layer), "out" in dep.handler.__name__, item)
        if made is None:
            fault = f"a {type(layer).__name__} depends on all of these channels at once"
        cuts += made or []
    root = layers[0][0]
    return _Traced(names[root], len(layers[0][2].idxs), tuple(cuts), _parts(layers, names), fault)


def _cuts(layer: Any, path: str | None, out: bool, item: Any) -> list[Cut] | None:
    """The cuts of one layer; None if it is of a kind whose channels can't be removed one by one."""
    names: tuple[str, ...]
    places, channels = torch.tensor(item.idxs), torch.tensor([-1 if root is None else root for root in item.root_idxs])
    if path is None or bool((channels < 0).any()):
        return None
    if isinstance(layer, _ConvNd) and layer.groups == layer.in_channels and layer.groups > 1:
        names, dimension = ("weight", "bias"), 0
    elif isinstance(layer, _ConvNd | nn.Linear):
        names = ("weight", "bias") if out else ("weight",)
        dimension = int(out == isinstance(layer, _ConvTransposeNd))
        if not out and isinstance(layer, _ConvNd) and layer.groups > 1:
            places = places % (layer.in_channels // layer.groups)
    elif isinstance(layer, _BatchNorm):
        names, dimension = ("weight", "bias", "running_mean", "running_var"), 0
    elif isinstance(layer, nn.PReLU):
        names, dimension = ("weight",) if layer.num_parameters > 1 else (), 0
    else:
        return None
    present = [name for name in names if getattr(layer, name, None) is not None]
    return [Cut(f"{path}.{name}", 0 if name == "bias" else dimension, places, channels) for name in present]


def _parts(layers: list[tuple[Any, Any, Any]], names: dict[nn.Module, str]) -> tuple[int, ...]:
    """Numbers of parts to try: the groups of convolutions, else one or the heads of the modules around the layers."""
    groups = {layer.groups for layer, _, _ in layers if isinstance(layer, _ConvNd) and layer.groups > 1}
    grouped = {number for number in groups if all(number < layer.in_channels for layer, _, _ in layers
               if isinstance(layer, _ConvNd) and layer.groups == number)}  # fmt: skip
    owners = {names[layer].rpartition(".")[0] for layer, _, _ in layers if layer in names}
    heads = {
        number
        for owner, path in names.items()
        if path in owners
        for number in (getattr(owner, "heads", None), getattr(owner, "num_heads", None))
        if isinstance(number, int)
    }
    least = math.lcm(*grouped) if grouped else 1
    return tuple(sorted({least, *(math.lcm(least, number) for number in heads)}))


def _proved(model: Model, found: _Traced, images: Tensor) -> Coupled:
    """The coupled channels, with the first number of parts for which removing is the same as silencing."""
    if found.fault:
        raise _Unfit(found.fault)
    reasons: list[str] = []
    for parts in found.parts:
        if found.channels % parts or found.channels // parts < 2:
            continue
        coupled = Coupled(found.name, found.channels, parts, found.cuts)
        order = torch.randperm(coupled.units, generator=torch.Generator().manual_seed(1))
        reason = _mismatch(model, coupled.removals(order[: coupled.units // 2]), images)
        if reason is None:
            return coupled
        reasons.append(reason)
    raise _Unfit(reasons[-1] if reasons else "there is only one channel")


def _mismatch(model: Model, removals: RemovedChannels, images: Tensor) -> str | None:
    """Why removing these channels differs from masking them; None if it is."""
    weights = model.weights()
    try:
        smaller = with_weights(model, remove_channels(weights, removals))
        with torch.inference_mode():
            found = smaller(images)
    except (RuntimeError, ValueError, IndexError, InvalidInput) as error:
        return f"fewer channels do not run ({str(error).splitlines()[0][:120]})"
    with torch.inference_mode():
        wanted = with_weights(model, mask_channels(weights, removals))(images)
    if found.shape != wanted.shape:
        return "these channels are the answers themselves"
    return differs(found, wanted, "removing these channels is not the same as silencing them")
