"""A module with its card: what every check, attack and exporter is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models.card import ArchitectureCard, decoded
from auditsvc.models.fake_quantization import Int8Layer


@dataclass(frozen=True)
class Model:
    """A module in eval mode and its card.  Calling it gives the audited output alone."""

    module: nn.Module
    card: ArchitectureCard

    def __post_init__(self) -> None:
        """Freeze the parameters: measuring needs no parameter gradients, and attacks pay for them twice."""
        self.module.eval().requires_grad_(False)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` float32 in 0..1 to the audited output as the task takes it: logits ``(N, classes)`` for
        classification; see ``auditsvc.tasks`` for the others."""
        return decoded(self.raw(images), self.card)

    def raw(self, images: Tensor) -> Tensor:
        """The audited output as the module gives it, in the layout that the card names."""
        return self.audited(self.module(_channels_last(images)))

    def audited(self, answers: Tensor | tuple[Tensor, ...]) -> Tensor:
        """The answer that is audited, of all that the module gives.

        Raises:
            InvalidInput: there are several and the card names none of them.
        """
        if isinstance(answers, Tensor):
            return answers
        names = getattr(self.module, "outputs", ())
        if self.card.output not in names:
            raise InvalidInput(
                f"architecture.json must name one output of {', '.join(names)}, not {self.card.output!r}"
            )
        return answers[names.index(self.card.output)]

    def on(self, device: str) -> Model:
        """The same model, moved to this device."""
        self.module.to(device)
        return self

    def weights(self) -> dict[str, Tensor]:
        """The tensors, as they are saved."""
        return {name: tensor.detach().contiguous() for name, tensor in self.module.state_dict().items()}

    def counts(self) -> dict[str, float]:
        """What was counted: parameters, and how many of them are not zero."""
        tensors = [parameter.detach() for parameter in self.module.parameters()]
        tensors += [layer.weight for layer in self.module.modules() if isinstance(layer, Int8Layer)]
        return {
            "parameters": float(sum(tensor.numel() for tensor in tensors)),
            "nonzero": float(sum(int(torch.count_nonzero(tensor)) for tensor in tensors)),
        }


def _channels_last(images: Tensor) -> Tensor:
    """The same images with channels innermost.

    Torch calls a one-channel tensor contiguous in both orders and then picks its kernel by the strides, so the
    last bit of an answer would depend on how the images were loaded.  Here the strides are always the same.
    """
    _, channels, _, width = images.shape
    if images.stride()[1:] == (1, width * channels, channels):
        return images
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)
