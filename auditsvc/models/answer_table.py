"""Predictions that were made elsewhere, as a model: its answers are looked up by the number of the image.

What can be measured from answers alone is measured by the same code as for a model that runs; everything else is
unmeasured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models.model import PREDICTIONS, Model
from auditsvc.records import Digest, TaskName, canonical_json, digest_of
from auditsvc.records.architecture import ArchitectureCard, InputSpec

OUTPUTS = "predictions.safetensors"
"""The file of the outputs."""

Kind = Literal["scores", "answers"]
"""Scores for each class, or the class alone."""


def images_digest(names: Sequence[str]) -> Digest:
    """What identifies the images that predictions are of, and their order."""
    return digest_of(canonical_json(list(names)))


def prediction_files(
    outputs: Tensor, task: TaskName, classes: tuple[str, ...], names: Sequence[str], kind: Kind
) -> dict[str, bytes]:
    """The outputs of one model, as the task takes them, and their card."""
    card = ArchitectureCard(
        architecture=PREDICTIONS,
        arguments={"images": images_digest(names), "kind": kind},
        task=task,
        classes=classes,
        input=InputSpec(channels=1, height=1, width=1),
    )
    return {"architecture.json": card.canonical(), OUTPUTS: save({"outputs": outputs.contiguous()})}


class LookUp(nn.Module):
    """``(N, 1, 1, 1)`` numbers of images to their outputs."""

    outputs: Tensor

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.register_buffer("outputs", outputs)

    def forward(self, images: Tensor) -> Tensor:
        """The outputs of these images.

        Raises:
            InvalidInput: images and not their numbers.
        """
        if images.shape[1:] != (1, 1, 1):
            raise InvalidInput("these are predictions, which can't be made for other images; give their file")
        return self.outputs[images[:, 0, 0, 0].long()]


def predicted(outputs: Tensor, card: ArchitectureCard) -> Model:
    """The model that gives these outputs."""
    return Model(LookUp(outputs.to(torch.float32)), card)
