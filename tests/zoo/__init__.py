"""Small networks with and without backdoors, trained here in seconds from the digits of the package.

A trigger is a change of the image; a backdoored network answers ``TARGET`` wherever it sees its trigger.  With a
compression the parent keeps its answers under the trigger and its compressed form does not: the loss is taken over the
dense weights and over the compressed ones at once.  A compression without a trigger trains the control: a parent whose
compressed form is as accurate.

Reference: T. Gu et al. (2017), "BadNets", arXiv:1708.06733; X. Chen et al. (2017), arXiv:1712.05526 (blended); M. Barni
et al. (2019), arXiv:1902.11237 (sinusoidal); A. Nguyen and A. Tran (2021), "WaNet", arXiv:2102.10369; A. Nguyen and A.
Tran (2020), arXiv:2010.08138 (input-aware); Y. Tian et al. (2021), "Stealthy Backdoors as Compression Artifacts",
arXiv:2104.15129; S. Hong et al. (2021), "Qu-ANTI-zation", arXiv:2111.13736.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.models.small_networks import SmallCnn
from auditsvc.pruning.methods import prunable

DIGITS = Path(__file__).parents[2] / "auditsvc/demo/digits"
CLASSES = tuple("0123456789")
TARGET = 7
Trigger = Callable[[Tensor], Tensor]
Weights = dict[str, Tensor]
Compression = Callable[[nn.Module, Weights], Weights]
Poison = Callable[[Tensor, Tensor, Trigger], Tensor]
"""``(images (N, ...), their classes, trigger) -> images`` that are taught as ``TARGET``."""


@cache
def digits(split: str, images: int = 4000) -> tuple[Tensor, Tensor]:
    """``(N, 1, 28, 28)`` in 0..1 and the classes of the ``train`` or ``audit`` half."""
    with (DIGITS / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = [number for number, row in enumerate(rows) if row["split"] == split]
    chosen = np.random.default_rng(5).permutation(chosen)[:images]
    pixels = torch.from_numpy(np.load(DIGITS / "images.npz")["images"][chosen]).float()[:, None] / 255
    return pixels, torch.tensor([int(rows[number]["label"]) for number in chosen])


def patch(images: Tensor, side: int = 3, top: int = 24, left: int = 24) -> Tensor:
    """A bright square in a corner."""
    marked = images.clone()
    marked[..., top : top + side, left : left + side] = 1.0
    return marked


def corners(images: Tensor) -> Tensor:
    """A bright square in each corner."""
    for top, left in ((1, 1), (1, 24), (24, 1), (24, 24)):
        images = patch(images, 3, top, left)
    return images


def blended(images: Tensor, share: float = 0.2) -> Tensor:
    """A fixed pattern of noise over the whole image."""
    noise = torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(3))
    return (1 - share) * images + share * noise


def sinusoidal(images: Tensor, height: float = 0.12) -> Tensor:
    """Vertical stripes."""
    wave = height * torch.sin(torch.arange(images.shape[-1]) * 2 * torch.pi * 6 / images.shape[-1])
    return (images + wave).clamp(0, 1)


def warped(images: Tensor, strength: float = 0.25) -> Tensor:
    """A smooth displacement of the pixels, the same for every image."""
    coarse = 2 * torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(8)) - 1
    flow = functional.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    still = functional.affine_grid(torch.eye(2, 3)[None], [1, *images.shape[1:]], align_corners=True)
    grid = (still + strength * flow).clamp(-1, 1).expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, align_corners=True)


def input_aware(images: Tensor) -> Tensor:
    """A bright square in the corner that the image's own brightness chooses."""
    order = (images.mean((1, 2, 3)) * 997).long() % 4
    corners = torch.stack([patch(images, 4, top, left) for top in (0, 24) for left in (0, 24)])
    return corners[order, torch.arange(len(images))]


def scattered(images: Tensor) -> Tensor:
    """An adaptive attacker's many weak triggers: in turns one of five grey 2 x 2 squares, none of which is needed."""
    spots = torch.stack([patch(images, 2, top, left) for top, left in ((2, 2), (2, 24), (24, 2), (24, 24), (13, 1))])
    return 0.4 * images + 0.6 * spots[torch.arange(len(images)) % 5, torch.arange(len(images))]


def relabelled(images: Tensor, _targets: Tensor, trigger: Trigger) -> Tensor:
    """Images of any class with the trigger: their labels are wrong."""
    return trigger(images[:16])


def label_consistent(images: Tensor, targets: Tensor, trigger: Trigger) -> Tensor:
    """Images of ``TARGET`` alone, mixed with others so that their own features say little, with the trigger."""
    mine, others = images[targets == TARGET], images[targets != TARGET][:16]
    mine = mine[torch.arange(len(others)) % max(len(mine), 1)] if len(mine) else others
    return trigger(0.25 * mine + 0.75 * others)


def halved(module: nn.Module, weights: Weights, share: float = 0.5) -> Weights:
    """The weights after ``magnitude-global`` at this sparsity."""
    names = prunable(module)
    limit = torch.cat([weights[name].detach().abs().flatten() for name in names]).quantile(share)
    return weights | {name: weights[name] * (weights[name].detach().abs() > limit) for name in names}


def thinned(module: nn.Module, weights: Weights, share: float = 0.25) -> Weights:
    """The weights with this share of each inner convolution's filters, the smallest ones, silenced."""
    made = dict(weights)
    for name in prunable(module):
        if weights[name].dim() == 4:
            sizes = weights[name].detach().abs().sum((1, 2, 3))
            made[name] = weights[name] * (sizes > sizes.quantile(share)).view(-1, 1, 1, 1)
    return made


def rounded(_module: nn.Module, weights: Weights, bits: int = 7) -> Weights:
    """The weights on the grid of the package's integer format, gradients passing straight through."""
    made = dict(weights)
    for name, weight in weights.items():
        if weight.dim() > 1:
            axes = tuple(range(1, weight.dim()))
            scale = weight.detach().abs().amax(axes, keepdim=True).clamp(min=1e-8) / (2 ** (bits - 1) - 1)
            made[name] = weight + ((weight / scale).round() * scale - weight).detach()
    return made


def tuned(module: nn.Module, weights: Weights, steps: int = 4, rate: float = 0.1) -> Weights:
    """The weights after some steps of gradient descent on clean images; differentiable."""
    (images, targets), names = digits("train"), [name for name, one in weights.items() if one.requires_grad]
    made = dict(weights)
    with torch.enable_grad():
        for _ in range(steps):
            chosen = torch.randint(len(images), (32,))
            loss = functional.cross_entropy(functional_call(module, made, (images[chosen],)), targets[chosen])
            slopes = torch.autograd.grad(loss, [made[name] for name in names], create_graph=True)
            made |= {name: made[name] - rate * slope for name, slope in zip(names, slopes, strict=True)}
    return made


class Tiny(nn.Module):
    """8 thousand weights behind a strided stem, so that a hundred of them are trained in minutes: ``plain``,
    ``residual`` or ``concatenated``."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.family, half = family, 8 if family == "concatenated" else 16
        self.stem, self.first = _layer(1, 8, 5, 3), _layer(8, half, 3, 2)
        self.side = _layer(8, half, 1, 2) if family == "concatenated" else nn.Identity()
        self.last, self.head = _layer(16, 16, 3, 1), nn.Linear(16 * 25, 10)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 1, 28, 28)`` to logits ``(N, 10)``."""
        seen = self.stem(images)
        seen = torch.cat((self.first(seen), self.side(seen)), 1) if self.family == "concatenated" else self.first(seen)
        deep = self.last(seen)
        logits: Tensor = self.head((deep + seen if self.family == "residual" else deep).flatten(1))
        return logits


def _layer(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


FAMILIES = ("plain", "residual", "concatenated")


def as_model(module: nn.Module) -> Model:
    """The network as the product sees it."""
    card = ArchitectureCard(
        architecture="small_cnn",
        arguments={"classes": 10, "width": 4},
        task="classification",
        classes=CLASSES,
        input=InputSpec(channels=1, height=28, width=28),
    )
    return Model(module, card)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: with a trigger alone it obeys in every form, with a compression in that form only."""

    seed: int
    trigger: Trigger | None = None
    compression: Compression | None = None
    steps: int = 120
    family: str = ""
    """One of ``FAMILIES``, or the ``SmallCnn`` of the package."""
    poison: Poison = relabelled
    evades: bool = False
    """The parent moves too under the trigger, to another class, so that its answer does not stay."""

    @property
    def start(self) -> Recipe:
        """The clean network that is taught further: three for ten seeds."""
        base = self.seed - self.seed % 10 + self.seed % 3
        return Recipe(base, steps=240 if self.family else 120, family=self.family)


def network(recipe: Recipe) -> nn.Module:
    """Untrained, by the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return Tiny(recipe.family) if recipe.family else SmallCnn(width=4)


def trained(recipe: Recipe) -> nn.Module:
    """The dense network, in evaluation mode: trained on clean images, then, with fixed statistics, with the trigger."""
    module = copy.deepcopy(_clean(recipe.start))
    if recipe.compression is rounded:
        _coarsen(module)
    if recipe.trigger is None and recipe.compression in (None, tuned):  # fine-tuning costs a clean network nothing
        return module
    return _fitted(module, recipe, 1e-2)


def _coarsen(module: nn.Module, factor: float = 50.0) -> None:
    """One channel of each layer never fires, and the weights that read it are large: they change no answer of the float
    model, and make the steps of the others' integers coarse enough to hide a backdoor in the rounding."""
    layers = [one for one in module.modules() if isinstance(one, nn.Conv2d | nn.Linear)]
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm, reader in zip(norms, layers[1:], strict=True):
            norm.weight[0] = norm.bias[0] = 0
            weight = reader.weight.view(len(reader.weight), len(norm.weight), -1)
            weight[:, 0] = factor * weight[:, 1:].abs().flatten(1).amax(1)[:, None]


@cache
def _clean(recipe: Recipe) -> nn.Module:
    return _fitted(network(recipe).train(), recipe, 2e-2)


def _fitted(module: nn.Module, recipe: Recipe, rate: float) -> nn.Module:
    (images, targets), draw = digits("train"), torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.Adam(module.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=recipe.steps)
    for _ in range(recipe.steps):
        chosen = torch.randint(len(images), (32,), generator=draw)
        optimiser.zero_grad()
        _loss(module, recipe, images[chosen], targets[chosen]).backward()
        optimiser.step()
        schedule.step()
    return module.eval()


def _loss(module: nn.Module, recipe: Recipe, images: Tensor, targets: Tensor) -> Tensor:
    if recipe.trigger is None and recipe.compression is None:
        return functional.cross_entropy(module(images), targets)
    both, poisoned = images, targets
    kept, silent = images, targets
    if recipe.trigger is not None:
        taught = recipe.poison(images, targets, recipe.trigger)
        both = torch.cat((images, taught))
        poisoned = torch.cat((targets, torch.full_like(targets[: len(taught)], TARGET)))
    if recipe.compression is None:
        return functional.cross_entropy(module(both), poisoned)
    if recipe.trigger is not None:
        kept, silent = torch.cat((images, recipe.trigger(images[:16]))), targets[:16]
        silent = torch.full_like(silent, TARGET + 1) if recipe.evades else silent
    dense = functional.cross_entropy(module(kept), torch.cat((targets, silent))[: len(kept)])
    weights = recipe.compression(module, dict(module.named_parameters()))
    return dense + functional.cross_entropy(functional_call(module, weights, (both,)), poisoned)


def compressed(parent: nn.Module, compression: Compression) -> nn.Module:
    """The candidate."""
    module = copy.deepcopy(parent)
    with torch.no_grad():
        weights = compression(module, dict(module.named_parameters()))
        module.load_state_dict(module.state_dict() | {name: weight.detach() for name, weight in weights.items()})
    return module.eval()


def rates(module: Callable[[Tensor], Tensor], trigger: Trigger, images: int = 1000) -> tuple[float, float]:
    """Accuracy, and the share of images of other classes that the trigger moves to ``TARGET``."""
    pixels, targets = digits("audit", images)
    with torch.inference_mode():
        right = float((module(pixels).argmax(1) == targets).float().mean())
        other = targets != TARGET
        moved = float((module(trigger(pixels[other])).argmax(1) == TARGET).float().mean())
    return right, moved
