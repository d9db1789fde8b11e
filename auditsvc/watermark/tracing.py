"""Follow a model's channels: run it once and see what every operation does with them.

Torch shows each operation that it performs, whatever the Python code around it looks like, so control flow, padding
that depends on sizes and reused layers need no care here.

Channels that meet an operation that is not known here are *pinned*: their order is taken to be unchanged.
So are those of grouped convolutions (other than depthwise ones), and the model's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from auditsvc.watermark.tracer import Label, Rule, Tracer
from auditsvc.watermark.wiring import Norm, Span, Wire, Wiring


def trace_wiring(model: nn.Module, images: Tensor) -> Wiring:
    """Follow the channels of two images or more through the model, which is left as it was."""
    tracer = Tracer({id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}, _RULES)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), tracer:
            batch = images[:2].clone()
            tracer.label(batch, tracer.fixed(batch.shape[1], 1))
            tracer.pin_all(_values(model(batch)))
    finally:
        for module, training in modes:
            module.training = training
    return tracer.wiring()


def _values(outputs: Any) -> Any:
    return tuple(outputs.values()) if isinstance(outputs, dict) else outputs


def _kept(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """Channels stay what they are: activations, pooling, padding, resizing."""
    label = tracer.of(args[0])
    if label and (result.dim() <= label.dim or result.shape[label.dim] != args[0].shape[label.dim]):
        tracer.pin(label)
        return None
    return label


def _both(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    left, right = tracer.of(args[0]), tracer.of(args[1])
    if left and right:
        return tracer.join(left, right)
    label = left or right
    return label if label and result.dim() > label.dim else None


def _mean(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    dims = args[1] if len(args) > 1 and args[1] is not None else list(range(args[0].dim()))
    axes = [dim % args[0].dim() for dim in ([dims] if isinstance(dims, int) else dims)]
    if label is None or label.dim in axes:
        tracer.pin(label)
        return None
    gone = 0 if result.dim() == args[0].dim() else sum(axis < label.dim for axis in axes)
    return Label(label.dim - gone, label.spans)


def _convolved(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    weight, transposed, groups = args[1], args[6], args[8]
    label, name = tracer.of(args[0]), tracer.names.get(id(weight))
    if name is None or transposed or (label and label.dim != 1):
        tracer.pin(label)
        return tracer.fixed(result.shape[1], 1)
    label = label or tracer.fixed(args[0].shape[1], 1)
    if groups == 1:
        return tracer.write(Wire(name, label.spans, tracer.fresh(weight.shape[0]), depthwise=False), 1)
    if weight.shape[0] != groups or weight.shape[1] != 1 or len(label.spans) != 1:
        tracer.pin(label)
        return tracer.fixed(result.shape[1], 1)
    (read,) = label.spans
    writes = Span(read.space, tracer.fresh(groups).scale, read.repeat)
    return tracer.write(Wire(name, label.spans, writes, depthwise=True), 1)


def _multiplied(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    left, weight = (args[1], args[2]) if len(args) > 2 else (args[0], args[1])
    label, name = tracer.of(left), tracer.names.get(id(weight))
    if name is None or (label and label.dim != left.dim() - 1):
        tracer.pin_all((left, weight))
        return None
    label = label or tracer.fixed(left.shape[-1], left.dim() - 1)
    return tracer.write(Wire(name, label.spans, tracer.fresh(result.shape[-1]), depthwise=False), result.dim() - 1)


def _turned(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """The transpose of a weight goes by the weight's name."""
    if id(args[0]) in tracer.names:
        tracer.names[id(result)] = tracer.names[id(args[0])]
        return None
    return _moved(tracer, result, (args[0], [1, 0]))


def _moved(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    if label is None:
        return None
    order = [dim % result.dim() for dim in args[1]]
    return Label(order.index(label.dim), label.spans)


def _swapped(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    order = list(range(result.dim()))
    one, other = args[1] % result.dim(), args[2] % result.dim()
    order[one], order[other] = order[other], order[one]
    return _moved(tracer, result, (args[0], order))


def _normalised(tracer: Tracer, _result: Tensor, args: Any) -> Label | None:
    label = tracer.of(args[0])
    gain, variance = tracer.names.get(id(args[1])), tracer.names.get(id(args[4]))
    if label is None or gain is None or variance is None or len(label.spans) != 1:
        tracer.pin(label)
        return label
    (read,) = label.spans
    writes = Span(read.space, tracer.fresh(tracer.sizes[read.space]).scale, read.repeat)
    tracer.steps.append(Norm(gain, variance, float(args[-1]), read, writes))
    return Label(label.dim, (writes,))


def _joined(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    labels = [tracer.of(value) for value in args[0]]
    dim = (args[1] if len(args) > 1 else 0) % result.dim()
    known = [label for label in labels if label]
    if len(known) < len(labels) or any(label.dim != dim for label in known):
        for label in known:
            tracer.pin(label)
        return None
    return Label(dim, tuple(span for label in known for span in label.spans))


def _viewed(tracer: Tracer, result: Tensor, args: Any) -> Label | None:
    """Flattening repeats each channel for every place; adding or dropping places of size one changes nothing."""
    label, old, new = tracer.of(args[0]), tuple(args[0].shape), tuple(result.shape)
    if label is None:
        return None
    dim = label.dim
    if old[: dim + 1] == new[: dim + 1]:
        return label
    if dim == len(old) - 1 and old[-1] == new[-1]:
        return Label(len(new) - 1, label.spans)
    places = torch.Size(old[dim + 1 :]).numel()
    if len(new) == dim + 1 and old[:dim] == new[:dim]:
        return Label(dim, tuple(Span(span.space, span.scale, span.repeat * places) for span in label.spans))
    tracer.pin(label)
    return None


def _table() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    groups: Sequence[tuple[Rule, str]] = (
        (_kept, "relu hardtanh hardswish hardsigmoid sigmoid tanh silu gelu leaky_relu elu mish clone detach alias "
                "constant_pad_nd reflection_pad2d replication_pad2d max_pool2d_with_indices avg_pool2d "
                "_adaptive_avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d "
                "_upsample_nearest_exact2d _to_copy neg abs clamp clamp_min clamp_max pow sqrt exp dropout lift_fresh "
                "native_dropout mkldnn_max_pool2d"),
        (_both, "add sub mul div maximum minimum"), (_mean, "mean sum amax"), (_convolved, "convolution"),
        (_multiplied, "addmm mm"), (_turned, "t"), (_moved, "permute"), (_swapped, "transpose"),
        (_normalised, "native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm"),
        (_joined, "cat"), (_viewed, "view _unsafe_view reshape squeeze unsqueeze flatten"),
    )  # fmt: skip
    for rule, names in groups:
        rules.update(dict.fromkeys(names.split(), rule))
    return rules


_RULES = _table()
