"""``python -m tests.runtimes.make_tflite``: writes ``exact.tflite`` and ``exact_int8.tflite`` of ``faulty.Exact``.

Needs ``litert-torch`` (0.10), which brings JAX, so the two small files are kept.  The integer file is quantised
statically, takes and gives int8, and is in channels-last layout, as converters for phones write it.
"""

from __future__ import annotations

from pathlib import Path

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe
from torch import nn

from tests.runtimes import faulty

HERE = Path(__file__).parent


class Convolved(nn.Module):
    """``faulty.Exact`` in layers that integer kernels have: the mean of four pixels, and one fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        flat = faulty.Exact().weights.flatten(1)
        self.pool, self.last = nn.AvgPool2d(2), nn.Linear(flat.shape[1], 2)
        self.last.weight.data = torch.cat((-flat, flat))
        self.last.bias.data = torch.tensor((faulty.THRESHOLD, -faulty.THRESHOLD))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.pool(images).flatten(1))


def main() -> None:
    network, images = Convolved().eval(), next(faulty.images(64).batches(64)).images
    litert_torch.convert(network, (images[:1],)).export(str(HERE / "exact.tflite"))
    last = litert_torch.to_channel_last_io(network, args=[0])
    swapped = images.permute(0, 2, 3, 1)
    litert_torch.convert(last, (swapped[:1],)).export(str(HERE / "last.tflite"))
    worker = quantizer.Quantizer(str(HERE / "last.tflite"), recipe.static_wi8_ai8())
    ranges = [worker.calibrate({"serving_default": [{"args_0": one[None].numpy()}]}) for one in swapped]
    widest = {
        name: {end: getattr(np, end)([one[name][end] for one in ranges], axis=0) for end in ("min", "max")}
        for name in ranges[0]
    }  # fmt: skip - calibrating on all at once gives moving averages, which clip
    made = worker.quantize(widest)
    (HERE / "exact_int8.tflite").unlink(missing_ok=True)
    made.export_model(str(HERE / "exact_int8.tflite"))
    (HERE / "last.tflite").unlink()


if __name__ == "__main__":
    main()
