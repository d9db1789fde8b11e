"""Networks of timm, torchvision and transformers with their own preprocessing, without a download or training.

The bodies have random weights and the heads are fitted in closed form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tests.roads import small

Prepare = Callable[[Tensor], Tensor]
Made = tuple[nn.Module, Prepare]


def library(name: str) -> None:
    """Skip where it is absent, or is built for another torch."""
    try:
        __import__(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} can't be imported: {error}")


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """``(N, 3, H, W)`` less the mean, over the standard deviation."""
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def shorter_side(images: Tensor, resize: int, crop: int, mode: str) -> Tensor:
    """The centre of the images, after their shorter side was scaled."""
    height, width = images.shape[-2:]
    short = min(height, width)
    size = (resize * height // short, resize * width // short)
    scaled = functional.interpolate(images, size, mode=mode, antialias=True).clamp(0, 1)
    top, left = (round((side - crop) / 2) for side in scaled.shape[-2:])
    return scaled[..., top : top + crop, left : left + crop]


def of_timm() -> Made:
    """A network of timm."""
    library("timm")
    import timm

    made = timm.create_model("test_resnet", num_classes=4)
    config = made.pretrained_cfg
    side = config["input_size"][1]
    resize, mode = int(side / config["crop_pct"]), config["interpolation"]
    return made, lambda images: normalised(shorter_side(images, resize, side, mode), config["mean"], config["std"])


def of_torchvision() -> Made:
    """A network of torchvision, with the transforms that are published for it."""
    library("torchvision")
    from torchvision import models

    name = "shufflenet_v2_x0_5"
    network, prepare = models.get_model(name, num_classes=4), models.get_model_weights(name).DEFAULT.transforms()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics of one batch, without which random layers tell nothing apart
    with torch.no_grad():
        network.train()(prepare(as_tensor(photos(shaded(small.pictures(40, 8))[0]))))
    return network, prepare


class Logits(nn.Module):
    """A network of transformers that gives its logits alone."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=64, num_labels=4, id2label=dict(enumerate(small.CLASSES)),
                           label2id={name: number for number, name in enumerate(small.CLASSES)})  # fmt: skip
        self.whole = ViTForImageClassification(config)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 4)``."""
        return self.whole(pixel_values=images).logits  # type: ignore[no-any-return]


def of_transformers() -> Made:
    """A network of transformers."""
    library("transformers")
    return Logits(), lambda images: normalised(
        functional.interpolate(images, (32, 32), mode="bilinear", antialias=True), (0.5,) * 3, (0.5,) * 3
    )


PROCESSOR = {"do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_rescale": True,
             "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
             "image_std": [0.5] * 3}  # fmt: skip


def fit_head(network: nn.Module, prepare: Prepare) -> nn.Linear:
    """Fit the last linear layer by ridge regression on pictures of their own; the layer."""
    head = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = head.register_forward_hook(lambda _layer, given, _out: seen.append(given[0]))
    pixels, labels = shaded(small.pictures(120, 9))
    with torch.inference_mode():
        network(prepare(as_tensor(photos(pixels))))
    hook.remove()
    features = torch.cat(seen).double()
    centre = features.mean(0)
    given = features - centre
    wanted = functional.one_hot(torch.from_numpy(labels), 4).double() - 0.25
    penalty = 1e-3 * given.square().sum() / given.shape[1] * torch.eye(given.shape[1], dtype=torch.double)
    found = torch.linalg.solve(given.T @ given + penalty, given.T @ wanted)
    with torch.no_grad():
        head.weight.copy_(found.T)
        head.bias.copy_(0.25 - centre @ found)
    return head


def shaded(pictures: small.Pictures) -> small.Pictures:
    """Pictures whose classes differ in brightness too, which random layers keep."""
    return (pictures[0] // 2 + 32 * pictures[1][:, None, None, None]).astype(np.uint8), pictures[1]


def photos(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tall ones, 72 x 48."""
    return np.kron(pixels, np.ones((1, 3, 2, 1), np.uint8))


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """``(N, 3, H, W)`` in 0..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def saved(folder: Path, made_by: Callable[[], Made], pictures: small.Pictures) -> tuple[float, float]:
    """A dense network, the same with most weights of its head at zero, and photos; the accuracy of both."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network, prepare = made_by()
    network.eval()
    head = fit_head(network, prepare)
    pixels, labels = shaded((pictures[0][:80], pictures[1][:80]))
    images = photos(pixels)
    small.image_folder(folder / "photos", (images, labels))
    found = []
    for which in ("dense", "small"):
        if which == "small":
            with torch.no_grad():
                head.weight[head.weight.abs() < head.weight.abs().flatten().quantile(0.5)] = 0
        with torch.inference_mode():
            found.append(float((network(prepare(as_tensor(images))).argmax(1).numpy() == labels).mean()))
        if isinstance(network, Logits):
            network.whole.save_pretrained(folder / which)
            (folder / which / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        elif which == "dense":
            torch.save({"state_dict": network.state_dict()}, folder / "dense.pt")
        else:
            weights = {key: value.contiguous() for key, value in network.state_dict().items()}
            safetensors.torch.save_file(weights, folder / "small.safetensors")
    return found[0], found[1]
