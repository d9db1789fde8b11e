"""What a thief does to a network that was taken; each gives the network as it is found later."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.watermark import ChannelGraph, Payload, derive_seed, embed, weights_digest
from auditsvc.watermark.channel_graph import Norm, Span, Wire
from tests.bench.watermark.digits import Digits, Net, answers, copied, pruned, train

Weights = dict[str, Tensor]


def cast(weights: Weights, dtype: torch.dtype = torch.float16) -> Weights:
    return {n: t.to(dtype).to(t.dtype) for n, t in weights.items()}


def quantised(weights: Weights, bits: int) -> Weights:
    """One scale for each filter, rounded to the nearest step."""

    def rounded(weight: Tensor) -> Tensor:
        top = 2 ** (bits - 1) - 1
        step = weight.abs().flatten(1).amax(1).clamp(min=1e-12).reshape(-1, *[1] * (weight.dim() - 1)) / top
        return (weight / step).round() * step

    return {name: rounded(t) if t.dim() > 1 else t for name, t in weights.items()}


def further_pruned(weights: Weights, share: float) -> Weights:
    net = Net.holding(weights)
    pruned(net, share)
    return copied(net)


def noisy(weights: Weights, share: float, seed: int = 1) -> Weights:
    """Gaussian noise on every surviving weight, as a share of its filter's size."""
    draw = torch.Generator().manual_seed(seed)

    def shaken(weight: Tensor) -> Tensor:
        size = weight.square().sum(tuple(range(1, weight.dim())), keepdim=True)
        size = (size / (weight != 0).sum(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1)).sqrt()
        return weight + share * size * torch.randn(weight.shape, generator=draw) * (weight != 0)

    return {name: shaken(t) if t.dim() > 1 else t for name, t in weights.items()}


def overwritten(weights: Weights, data: Digits, times: float) -> Weights:
    """The thief puts a mark of the same kind over ours, some times as strong as usual."""
    net = Net.holding(weights)
    digest = weights_digest(weights)
    seed = derive_seed(b"thief" * 8, digest, "mine")
    marked, _ = embed(net, net, data.pool, seed=seed, unmarked=digest, payload=Payload(99), strength=0.05 * times)
    return marked


def disguised(weights: Weights, wiring: ChannelGraph, seed: int = 2) -> Weights:
    """Channels renumbered, scaled and flipped, so that the network computes exactly what it did before."""
    draw = np.random.default_rng(seed)
    order = {s: draw.permutation(n) if s not in wiring.pinned else np.arange(n) for s, n in wiring.sizes.items()}
    factors: dict[int, Tensor] = {}
    flippable = {step.reads.scale for step in wiring.steps if isinstance(step, Norm)}  # before a normalisation

    def factor(space: int, scale: int) -> Tensor:
        if scale not in factors:
            size = wiring.sizes[space]
            values = np.exp(draw.uniform(-1, 1, size)) * (draw.choice([-1, 1], size) if scale in flippable else 1)
            factors[scale] = torch.from_numpy(np.ones(size) if space in wiring.pinned else values).float()
        return factors[scale]

    result = dict(weights)
    for step in wiring.steps:
        to, place = factor(step.writes.space, step.writes.scale), order[step.writes.space]
        if isinstance(step, Wire):
            weight = weights[step.weight]
            ends = [1] * (weight.dim() - 2)
            since = torch.cat([factor(span.space, span.scale).repeat_interleave(span.repeat) for span in step.reads])
            inputs = columns([(torch.from_numpy(order[span.space]), span) for span in step.reads], wiring)
            scaled = weight * to.reshape(-1, 1, *ends) / since.reshape(1, -1, *ends)
            result[step.weight] = scaled[place][:, inputs]
            continue
        since, stem = factor(step.reads.space, step.reads.scale), step.gain.removesuffix("weight")
        result[step.gain] = (weights[step.gain] * to * since.sign())[place]
        result[f"{stem}bias"] = (weights[f"{stem}bias"] * to)[place]
        result[f"{stem}running_mean"] = (weights[f"{stem}running_mean"] * since)[place]
        spread = weights[step.variance] + step.epsilon
        result[step.variance] = (spread * since.square() - step.epsilon).clamp(min=0)[place]
    return result


def columns(chosen: list[tuple[Tensor, Span]], wiring: ChannelGraph) -> Tensor:
    """Which inputs of a layer belong to these channels of the spaces that it reads."""
    found, start = [], 0
    for channels, span in chosen:
        found.append((start + channels[:, None] * span.repeat + torch.arange(span.repeat)).flatten())
        start += wiring.sizes[span.space] * span.repeat
    return torch.cat(found)


def narrowed(weights: Weights, wiring: ChannelGraph, share: float) -> Weights:
    """Structured pruning: the channels with the smallest filters are cut out of every space that allows it."""
    sizes = {space: torch.zeros(n) for space, n in wiring.sizes.items()}
    for step in wiring.steps:
        if isinstance(step, Wire):
            sizes[step.writes.space] += weights[step.weight].flatten(1).norm(dim=1)
    kept = {
        space: size.topk(size.numel() - int(share * size.numel() * (space not in wiring.pinned))).indices.sort().values
        for space, size in sizes.items()
    }
    result = dict(weights)
    for step in wiring.steps:
        if isinstance(step, Wire):
            inputs = columns([(kept[span.space], span) for span in step.reads], wiring)
            result[step.weight] = weights[step.weight][kept[step.writes.space]][:, inputs]
        else:
            stem = step.gain.removesuffix("weight")
            for name in ("weight", "bias", "running_mean", "running_var"):
                result[stem + name] = weights[stem + name][kept[step.writes.space]]
    return result


def fine_tuned(weights: Weights, data: Digits, epochs: float, rate: float = 0.01) -> Weights:
    net = Net.holding(weights)
    train(net, data.train, epochs, rate, seed=3)
    return copied(net)


def retrained_head(weights: Weights, data: Digits) -> Weights:
    """A new head, then all layers trained at a high rate for three epochs."""
    net = Net.holding(weights)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net.head.reset_parameters()
    train(net, data.train, 3, 0.05, seed=4)
    return copied(net)


def distilled(weights: Weights, data: Digits) -> Weights:
    """A new network trained on nothing but the answers of the stolen one."""
    images = torch.cat([data.train[0], data.pool])
    soft = (answers(Net.holding(weights), images) / 4).softmax(1)

    def loss(got: Tensor, wanted: Tensor) -> Tensor:
        return 16 * functional.kl_div((got / 4).log_softmax(1), wanted, reduction="batchmean")

    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = Net()
        train(net, (images, soft), 5, 0.05, seed=5, loss=loss, once=True)
    return copied(net)


def attacks(weights: Weights, wiring: ChannelGraph, data: Digits) -> dict[str, Callable[[], Weights]]:
    """By name, each to be run when it is its turn."""
    return {
        "none": lambda: weights,
        "fp16": lambda: cast(weights),
        "int8": lambda: quantised(weights, 8),
        "int4": lambda: quantised(weights, 4),
        "prune_30": lambda: further_pruned(weights, 0.3),
        "prune_50": lambda: further_pruned(weights, 0.5),
        "prune_70": lambda: further_pruned(weights, 0.7),
        "prune_90": lambda: further_pruned(weights, 0.9),
        "noise_20": lambda: noisy(weights, 0.2),
        "overwrite_1x": lambda: overwritten(weights, data, 1),
        "overwrite_3x": lambda: overwritten(weights, data, 3),
        "permute_rescale_flip_int8": lambda: quantised(disguised(weights, wiring), 8),
        "structured_30": lambda: narrowed(weights, wiring, 0.3),
        "structured_30_finetune_2": lambda: fine_tuned(narrowed(weights, wiring, 0.3), data, 2),
        "finetune_1": lambda: fine_tuned(weights, data, 1),
        "finetune_5": lambda: fine_tuned(weights, data, 5),
        "head_reinit_3": lambda: retrained_head(weights, data),
        "distilled": lambda: distilled(weights, data),
    }


def same_function(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """The largest difference of any answer, as a share of the spread of answers."""
    left, right = answers(one, images), answers(other, images)
    return float((left - right).abs().max() / left.std())
