"""Small networks whose every weight is known by seed."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from auditsvc.records import Digest, Mark
from auditsvc.watermark import ChannelGraph, Payload, derive_seed, embed, trace_channels, weights_digest
from tests.bench.watermark.digits import Net, answers, copied, read_digits, train

MASTER = bytes(range(32))
PAYLOAD = Payload(release=5, recipient=6)


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


@dataclass(frozen=True)
class Marked:
    """One marked network of 12 thousand weights besides zeros, and all that is needed to find the mark.

    ``images`` are digits; the first 200 were held still, the others the mark has not seen.
    """

    net: Net
    original: dict[str, Tensor]
    weights: dict[str, Tensor]
    wiring: ChannelGraph
    unmarked: Digest
    seed: bytes
    mark: Mark
    images: Tensor


def drawn(seed: int) -> Net:
    """An untrained network with half of its weights zero and normalisations that are not all alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Net((8, 12, 24), (8, 12, 16, 20, 24)).eval()
        with torch.no_grad():
            for name, tensor in net.state_dict().items():
                if tensor.dim() > 1:
                    tensor.mul_(torch.rand_like(tensor) > 0.5)
                elif name.endswith(("running_var", "weight")):
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith(("running_mean", "bias")):
                    tensor.normal_(0, 0.1)
    return net


@pytest.fixture
def odd() -> nn.Module:
    with torch.random.fork_rng():
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


@pytest.fixture(scope="session")
def marked() -> Marked:
    data = read_digits(trained=1500)
    net, images = drawn(0), torch.cat([data.train[0][:200], data.pool[:400]])
    train(net, data.train, 6, 0.02, seed=0, masked=True)
    assert len(set(answers(net, images).argmax(1).tolist())) == 10, "a network that learned nothing shows nothing"
    original = copied(net)
    unmarked = weights_digest(original)
    seed = derive_seed(MASTER, unmarked, "toy-1")
    weights, mark = embed(net, net, images[:300], seed=seed, unmarked=unmarked, payload=PAYLOAD, strength=0.05)
    return Marked(net, original, weights, trace_channels(net, images), unmarked, seed, mark, images)
