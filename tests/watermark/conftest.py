"""Small networks whose every weight is known by seed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Odd(nn.Module):
    """Every kind of layer that can be marked: strided, grouped, depthwise, padded oddly, in place, shared."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, stride=2, padding="valid")
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.group = nn.Conv2d(8, 12, 3, padding=1, dilation=1, groups=4)
        self.norm = nn.BatchNorm2d(12)
        self.mirror = nn.Conv2d(12, 12, 3, padding=1, padding_mode="reflect")
        self.point = nn.Conv2d(12, 16, 1, stride=2)
        self.head = nn.Linear(16, 4)
        self.unused = nn.Linear(5, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.relu_(self.first(images))
        features = torch.relu_(self.norm(self.group(self.depth(features))))
        features = torch.relu_(self.mirror(torch.relu(self.mirror(features))))
        return self.head(self.point(features).mean((2, 3)))


@pytest.fixture
def odd() -> nn.Module:
    torch.manual_seed(0)
    model = Odd().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.mul_(torch.rand_like(module.weight) > 0.3)
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def answers(odd: nn.Module) -> Callable[[Tensor], Tensor]:
    return odd
