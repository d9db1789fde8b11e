"""Per-image gradients of the logits and their Gram matrix, in bounded memory; and the layers that can be watermarked.

For one image and one random mixture of its logits, the gradient over all weights is one *row*.  A watermark that is
orthogonal to the rows leaves the answers unchanged.  Of the rows ``J`` only ``J J'`` and ``J s`` are needed, so they
are computed for a group of filters at a time, at most ``MEMORY`` bytes; a model whose rows do not fit runs once more
for each further group.

The gradient of one image is computed from the layer's input and the gradient at its output, so a whole batch costs one
backward pass instead of one for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from auditsvc.errors import InvalidInput
from auditsvc.models.devices import one_thread
from auditsvc.records import Digest
from auditsvc.watermark.significance import weighted_median
from auditsvc.watermark.watermark_keys import Payload, all_subkeys, carrier

MEMORY = 1 << 30
"""Bytes of rows held at once.  The Gram matrix, the weights (a few copies) and one batch come on top."""

BATCH = 8
"""Images in one pass; small batches stay in the processor's cache."""

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer whose weights can be marked; ``name`` is that of its weight tensor."""

    name: str
    module: nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class Part:
    """Some output filters of one layer."""

    layer: Layer
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Weights in it."""
        return (self.stop - self.start) * self.layer.module.weight[0].numel()


@dataclass(frozen=True)
class Probe:
    """Images and the mixtures of logits that are used: ``(N, R, C)``, one of R rows for each image."""

    logits: Logits
    images: Tensor
    mixtures: Tensor

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.mixtures.shape[0] * self.mixtures.shape[1]

    def batches(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The first image's number, images and mixtures, a batch at a time."""
        for start in range(0, len(self.images), BATCH):
            batch = self.images[start : start + BATCH].contiguous(memory_format=torch.channels_last)
            yield start, batch, self.mixtures[start : start + BATCH]


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """All two-dimensional convolutions and linear layers, in the order of the state dict; shared weights once."""
    found: dict[int, Layer] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            found.setdefault(id(module.weight), Layer(f"{name}.weight" if name else "weight", module))
    return tuple(found.values())


def reached(layers: Sequence[Layer], logits: Logits, image: Tensor) -> tuple[Layer, ...]:
    """The layers that the logits depend on; the others can't be marked with care, so they are not marked."""
    weights = [layer.module.weight for layer in layers]
    with torch.enable_grad():
        answers = logits(image)
    if not (layers and answers.requires_grad):
        return ()
    slopes = torch.autograd.grad(answers.sum(), weights, allow_unused=True)
    return tuple(layer for layer, slope in zip(layers, slopes, strict=True) if slope is not None)


def parts_of(layers: Sequence[Layer], rows: int, memory: int = MEMORY) -> list[list[Part]]:
    """The layers cut into groups of filters whose rows fit into ``memory`` bytes (or are one filter)."""
    groups: list[list[Part]] = [[]]
    room = memory // (4 * max(rows, 1))
    left = room
    for layer in layers:
        per_filter = layer.module.weight[0].numel()
        start, filters = 0, layer.module.weight.shape[0]
        while start < filters:
            fitting = min(filters - start, left // per_filter)
            if fitting <= 0 and groups[-1]:
                groups.append([])
                left = room
                continue
            stop = start + max(fitting, 1)
            groups[-1].append(Part(layer, start, stop))
            left -= (stop - start) * per_filter
            start = stop
    return groups


def rows_of(parts: Sequence[Part], probe: Probe) -> Tensor:
    """``(rows, weights of these parts)`` float32: the gradients of every image and mixture."""
    rows = torch.empty(probe.rows, sum(part.size for part in parts))
    per_image = probe.mixtures.shape[1]
    modules = list({id(part.layer.module): part.layer.module for part in parts}.values())
    for start, batch, mixtures in probe.batches():
        with _caught(modules) as calls:
            answers = probe.logits(batch)
        for mixture in range(per_image):
            mixed = (answers * mixtures[:, mixture]).sum()
            outputs = [call.output for call in calls]
            slopes = torch.autograd.grad(mixed, outputs, retain_graph=mixture + 1 < per_image, allow_unused=True)
            first = start * per_image + mixture
            into = rows[first : first + len(batch) * per_image : per_image]
            _fill(into, parts, calls, slopes)
    return rows


def pulled_back(layers: Sequence[Layer], probe: Probe, amounts: Tensor) -> list[Tensor]:
    """For each layer, ``J' amounts`` in the shape of its weight, ``amounts`` being ``(rows,)``."""
    weights = [layer.module.weight for layer in layers]
    totals = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    by_image = amounts.float().reshape(len(probe.images), -1, 1)
    for start, batch, mixtures in probe.batches():
        with torch.enable_grad():
            mixed = (probe.logits(batch)[:, None] * mixtures * by_image[start : start + len(batch)]).sum()
        for total, slope in zip(totals, torch.autograd.grad(mixed, weights, allow_unused=True), strict=True):
            if slope is not None:
                total += slope.float()
    return totals


@dataclass
class _Call:
    """One use of a layer: what went in, what came out."""

    module: nn.Conv2d | nn.Linear
    inputs: Tensor
    output: Tensor
    version: int


@contextmanager
def _caught(modules: Sequence[nn.Conv2d | nn.Linear]) -> Iterator[list[_Call]]:
    """Note every use of these layers while the model runs with gradients on."""
    calls: list[_Call] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if isinstance(module, nn.Conv2d | nn.Linear):
            calls.append(_Call(module, inputs[0].detach(), output, inputs[0]._version))
        return output.clone()  # what follows may work in place; the noted output must stay as it is

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        with torch.enable_grad():
            yield calls
    finally:
        for handle in handles:
            handle.remove()


def _fill(into: Tensor, parts: Sequence[Part], calls: Sequence[_Call], slopes: Sequence[Tensor | None]) -> None:
    """Write the gradients of one batch: ``into`` is ``(batch, weights of these parts)``."""
    into.zero_()
    for call, slope in zip(calls, slopes, strict=True):
        if slope is None:
            continue
        if call.inputs._version != call.version:
            raise InvalidInput("a layer's input is changed in place after use, so its gradients can't be taken")
        offset = 0
        for part in parts:
            if part.layer.module is call.module:
                into[:, offset : offset + part.size] += _per_image(call, slope, part.start, part.stop)
            offset += part.size


def _per_image(call: _Call, slope: Tensor, start: int, stop: int) -> Tensor:
    """``(batch, weights)``: the gradient of each image over the filters from ``start`` to ``stop``."""
    module = call.module
    if isinstance(module, nn.Linear):
        batch = len(slope)
        outer = torch.einsum("bpo,bpi->boi", slope[..., start:stop].reshape(batch, -1, stop - start),
                             call.inputs.reshape(batch, -1, module.in_features))  # fmt: skip
        return outer.reshape(batch, -1).float()
    return _convolution(module, call.inputs, slope, start, stop)


def _convolution(module: nn.Conv2d, inputs: Tensor, slope: Tensor, start: int, stop: int) -> Tensor:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        inputs, padding = functional.pad(inputs, list(module._reversed_padding_repeated_twice), mode=mode), (0, 0)
    else:
        padding = (int(module.padding[0]), int(module.padding[1]))
    if module.groups == 1:
        slope, first, shape = slope[:, start:stop], 0, (stop - start, *module.weight.shape[1:])
    else:
        first, shape = start, tuple(module.weight.shape)
    if module.kernel_size == (1, 1) and padding == (0, 0) and module.groups == 1:
        seen = inputs[:, :, :: module.stride[0], :: module.stride[1]]
        return torch.matmul(slope.flatten(2), seen.flatten(2).transpose(1, 2)).flatten(1).float()
    settings = (module.stride, padding, module.dilation, module.groups)
    each = [
        conv2d_weight(inputs[i : i + 1], shape, slope[i : i + 1], *settings)  # type: ignore[no-untyped-call]
        for i in range(len(slope))
    ]
    return torch.stack(each)[:, first : first + stop - start].flatten(1).float()


ROWS = (100, 800)
"""Fewest and most rows: answers of images that are held still."""

ROOM = 45_000_000
"""Rows times weights that are affordable: some 5 s on a busy core.  Between the two, rows = ROOM / weights."""

MIXTURES = 2
"""Random mixtures of logits for each image, each a row; two classes have one."""

SHARES = (1 / 32, 4.0)
"""The least and the most that a filter carries, as a multiple of the filter in the middle."""


@dataclass(frozen=True)
class Target:
    """What is marked: layers, how far each weight moves (0 where it stays), the signs, the images."""

    layers: tuple[Layer, ...]
    scales: dict[str, Tensor]
    signs: dict[str, Tensor]
    probe: Probe

    @property
    def count(self) -> int:
        """Weights that carry the mark."""
        return sum(int(torch.count_nonzero(scale)) for scale in self.scales.values())


def prepare(
    model: nn.Module, logits: Logits, images: Tensor, seed: bytes, unmarked: Digest, payload: Payload
) -> Target:
    """All that marking needs of the unmarked model, on the first two thirds of ``images`` or fewer.

    Raises:
        InvalidInput: fewer than three images, or nothing to mark.
    """
    if len(images) < 3:
        raise InvalidInput(f"marking needs at least 3 images, and some hundreds to do it well; {len(images)} given")
    with evaluating(model), one_thread():
        with torch.no_grad():
            classes = logits(images[:1]).shape[1]
        layers = reached(layers_of(model), logits, images[:1])
        if not layers:
            raise InvalidInput("the logits depend on no convolution or linear layer, so there is nothing to mark")
        scales = {layer.name: filter_scales(layer.module.weight.detach()) for layer in layers}
        count = sum(int(torch.count_nonzero(scale)) for scale in scales.values())
        mixtures = min(MIXTURES, max(classes - 1, 1))
        rows = min(max(ROOM // max(count, 1), ROWS[0]), ROWS[1])
        held = min(max(rows // mixtures, 1), -(-2 * len(images) // 3))
        probe = Probe(logits, images[:held], _mixtures(held, mixtures, classes))
        subkeys = all_subkeys(seed)
        signs = {}
        for layer in layers:
            weight = layer.module.weight
            flat = carrier(subkeys, unmarked, layer.name, weight.numel()).carrying(payload)
            signs[layer.name] = torch.from_numpy(flat).reshape(weight.shape)
        return Target(layers, _balanced(layers, scales, probe), signs, probe)


def _balanced(layers: Sequence[Layer], scales: dict[str, Tensor], probe: Probe) -> dict[str, Tensor]:
    """The scales times a share for each filter: the less the answers depend on it, the more of the mark it carries.

    For a given mean share, and so a given z, shares in inverse proportion to the mean square of a filter's rows
    change the answers least.
    """
    squares = {name: torch.zeros(len(scale)) for name, scale in scales.items()}
    for parts in parts_of(layers, probe.rows):
        each = torch.split(rows_of(parts, probe).square_().sum(0), [part.size for part in parts])
        for part, square in zip(parts, each, strict=True):
            scale = scales[part.layer.name][part.start : part.stop].flatten(1)
            squares[part.layer.name][part.start : part.stop] = (square.reshape(scale.shape) * scale.square()).sum(1)
    counts = torch.cat([torch.count_nonzero(scale.flatten(1), dim=1) for scale in scales.values()])
    means = torch.cat(list(squares.values())) / counts.clamp(min=1)
    middle = weighted_median(means.double().numpy(), counts.double().numpy())
    shares = (middle / means).nan_to_num(1.0).clamp(*SHARES)
    shares = shares * counts.sum() / (shares * counts).sum().clamp(min=1e-12)
    split = torch.split(shares, [len(scale) for scale in scales.values()])
    return {name: scale * share.reshape(-1, *[1] * (scale.dim() - 1))
            for (name, scale), share in zip(scales.items(), split, strict=True)}  # fmt: skip


def filter_scales(weight: Tensor) -> Tensor:
    """For each weight the root mean square of its output filter's surviving weights, 0 where the weight is 0."""
    full = weight.float()
    alive = full != 0
    other = tuple(range(1, full.dim()))
    rms = (full.square().sum(other, keepdim=True) / alive.sum(other, keepdim=True).clamp(min=1)).sqrt()
    return rms * alive


def _mixtures(images: int, count: int, classes: int) -> Tensor:
    """``(N, R, C)``: mixtures of centred logits, +1 or -1 each; the same for everybody, as they are no secret."""
    bits = np.random.Generator(np.random.Philox(0)).integers(0, 2, (images, count, classes))
    mixtures = torch.from_numpy(1.0 - 2.0 * bits).float()
    if classes == 2:
        mixtures = torch.tensor([1.0, -1.0]).expand(images, 1, 2)
    return mixtures - mixtures.mean(2, keepdim=True) if classes > 1 else torch.ones(images, 1, 1)


def flat(values: dict[str, Tensor], parts: Sequence[Part]) -> Tensor:
    """The values of these parts in one row, in the order of ``gradients.rows_of``."""
    return torch.cat([values[part.layer.name][part.start : part.stop].reshape(-1) for part in parts])


def answers_of(logits: Logits, images: Tensor) -> Tensor:
    """``(N, C)`` float32, a small batch at a time."""
    with torch.no_grad():
        return torch.cat([logits(batch) for _, batch, _ in Probe(logits, images, images[:, :0]).batches()]).float()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and gradients allowed on the weights; both as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.eval()
    try:
        for weight, _ in wanted:
            weight.requires_grad_(True)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, flag in wanted:
            weight.requires_grad_(flag)
