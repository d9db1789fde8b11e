"""A small network for handwritten digits, and how everybody in this benchmark trains it."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).parents[3] / "auditsvc" / "demo" / "digits"
WIDTHS = {"trunk": (24, 48, 96), "hidden": (24, 48, 48, 96, 96)}
BATCH = 64


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 1, 28, 28)`` in 0..1 and labels; writers of ``test`` wrote nothing in ``train`` and ``pool``."""

    train: tuple[Tensor, Tensor]
    pool: Tensor
    test: tuple[Tensor, Tensor]


def read_digits(folder: Path = FOLDER, trained: int = 4000) -> Digits:
    images = torch.from_numpy(np.load(folder / "images.npz")["images"]).float()[:, None] / 255
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = torch.tensor([int(row["label"]) for row in rows])
    seen = torch.tensor([row["split"] == "train" for row in rows])
    order = torch.randperm(int(seen.sum()), generator=torch.Generator().manual_seed(0))
    known, answers = images[seen][order], labels[seen][order]
    return Digits((known[:trained], answers[:trained]), known[trained:], (images[~seen], labels[~seen]))


class Block(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.turn = stride > 1
        if self.turn:
            self.conv3 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        deep = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(features)))))
        return functional.relu(deep + (self.bn3(self.conv3(features)) if self.turn else features))


class Net(nn.Module):
    """Five residual blocks, 380 thousand weights at the usual widths."""

    def __init__(self, trunk: Sequence[int] = WIDTHS["trunk"], hidden: Sequence[int] = WIDTHS["hidden"]) -> None:
        super().__init__()
        a, b, c = trunk
        self.conv0 = nn.Conv2d(1, a, 3, 2, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(a)
        shapes = ((a, a, 1), (a, b, 2), (b, b, 1), (b, c, 2), (c, c, 1))
        self.blocks = nn.Sequential(*(Block(i, h, o, s) for h, (i, o, s) in zip(hidden, shapes, strict=True)))
        self.head = nn.Linear(c, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.relu(self.bn0(self.conv0(images)))
        return self.head(self.blocks(features).mean((2, 3)))

    @classmethod
    def holding(cls, weights: dict[str, Tensor]) -> "Net":
        """A network as wide as these weights, in evaluation mode."""
        trunk = (len(weights["conv0.weight"]), len(weights["blocks.1.bn2.weight"]), len(weights["blocks.3.bn2.weight"]))
        net = cls(trunk, [len(weights[f"blocks.{i}.bn1.weight"]) for i in range(5)])
        net.load_state_dict(weights)
        return net.eval()


def copied(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def train(
    net: Net,
    data: tuple[Tensor, Tensor],
    epochs: float,
    rate: float,
    *,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    masked: bool = False,
    once: bool = False,
) -> None:
    """SGD with momentum; ``masked`` keeps zeros at zero; ``once`` lets the rate rise and fall (one cycle)."""
    images, targets = data
    alive = [(p, p != 0) for name, p in net.named_parameters() if p.dim() > 1] if masked else []
    draw = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    steps = round(epochs * (len(images) // BATCH))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps) if once else None
    net.train()
    done = 0
    while done < steps:
        for part in torch.randperm(len(images), generator=draw).split(BATCH)[: len(images) // BATCH]:
            optimiser.zero_grad()
            loss(net(shifted(images[part], draw)), targets[part]).backward()
            optimiser.step()
            with torch.no_grad():
                for parameter, mask in alive:
                    parameter.mul_(mask)
            if schedule:
                schedule.step()
            done += 1
            if done == steps:
                break
    net.eval()


def shifted(images: Tensor, draw: torch.Generator) -> Tensor:
    """The batch moved by up to two pixels, all alike."""
    rows, columns = torch.randint(-2, 3, (2,), generator=draw).tolist()
    return images.roll((rows, columns), (2, 3))


def answers(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(batch) for batch in images.split(256)])


def accuracy(net: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return float((answers(net, data[0]).argmax(1) == data[1]).double().mean()) * 100


def pruned(net: Net, share: float) -> None:
    """Set the smallest weights of all convolutions and the head to zero, by one threshold."""
    weights = [p for p in net.parameters() if p.dim() > 1]
    alive = torch.cat([w.detach()[w.detach() != 0].abs() for w in weights])
    limit = alive.kthvalue(max(int(share * len(alive)), 1)).values
    with torch.no_grad():
        for weight in weights:
            weight.mul_(weight.abs() > limit)


def candidate(data: Digits, seed: int = 0) -> Net:
    """Trained, half of its weights pruned, recovered."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Net()
        train(net, data.train, 8, 0.1, seed=seed, once=True)
        pruned(net, 0.5)
        train(net, data.train, 2, 0.02, seed=seed + 1, masked=True, once=True)
    return net
