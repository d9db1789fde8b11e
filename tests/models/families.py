"""The small networks as models with random, but not trivial, weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from auditsvc.models import ArchitectureCard, InputSpec, Model, build

FAMILIES = {
    "plain": "small_cnn",
    "residual": "small_resnet",
    "depthwise": "small_mobile",
    "grouped": "small_grouped",
    "concat": "small_concat",
    "attention": "small_attention",
    "split": "small_split",
    "fixed view": "small_fixed_view",
}


def digits_card(architecture: str, **arguments: object) -> ArchitectureCard:
    return ArchitectureCard(
        architecture=architecture,
        arguments=arguments,
        task="classification",
        classes=tuple("0123456789"),
        input=InputSpec(channels=1, height=28, width=28),
    )


def model_of(architecture: str, seed: int = 0, **arguments: object) -> Model:
    """Batch normalisation gets statistics and scales of its own, so that no layer is an identity."""
    card = digits_card(architecture, **arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(architecture, card.arguments)
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.2, 0.2)
                nn.init.uniform_(layer.running_mean, -0.2, 0.2)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return Model(module, card)


def grey_images(number: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(number, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
