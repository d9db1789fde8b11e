"""A model: a module with its architecture card, as every check, attack and exporter receives it.

The card is ``architecture.json`` (``auditsvc.records.architecture``).  Its preprocessing is part of the module: every
caller gives images in their own units.  Detectors and text recognisers are exported in several layouts.  The card names
the layout; decoding gives one form for each task: boxes as fractions of the image with confidences whose operating
point is one half, or CTC logits with the blank last.  Decoding is differentiable, so gradient attacks work through it.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput, Refused
from auditsvc.models.fake_quantization import Int8Layer
from auditsvc.models.preprocessing import fitted, install_preprocessing, without_padding
from auditsvc.records import TaskName
from auditsvc.records.architecture import LAYOUTS, SUPPRESSED, ArchitectureCard, Decoding, Layout, OutputActivation

TINY = 1e-6

PREDICTIONS = "predictions"
"""The architecture of predictions that were made elsewhere, which are in the task's form already."""


def decoded(raw: Tensor, card: ArchitectureCard, given: Sequence[int] | None = None) -> Tensor:
    """The output as the task takes it; ``given`` is the height and width of the images, where they may be padded.

    Raises:
        InvalidInput: an output of another shape than the card says, with both.
    """
    if card.architecture == PREDICTIONS:
        return raw
    own, outputs = LAYOUTS.get(card.task), len(card.output_classes or card.classes)
    if own is None:
        answers = _in_order(_logits(raw, card), card, axis=1)
        return without_padding(answers, card, given) if given else answers
    decoding = card.decoding or Decoding(layout=own[0])
    if not _fits(decoding.layout, raw.shape, outputs):
        raise InvalidInput(
            f"the layout {decoding.layout} with {outputs} classes is {_shape_of(decoding.layout, card)}; the "
            f"model gives {tuple(raw.shape)}: name another layout in the card's decoding"
        )
    first = 0 if card.task == "ocr" else BOX
    raw = _without_activation(raw, card)
    answers = _in_order(_DECODERS[decoding.layout](raw, card, decoding), card, axis=2, first=first)
    return without_padding(answers, card, given) if given else answers


BOX = 4
"""Numbers of a box, which precede the confidences."""


def _in_order(answers: Tensor, card: ArchitectureCard, axis: int, first: int = 0) -> Tensor:
    """The answers with the classes, which are there from place ``first`` on, in the order of the card's."""
    if card.output_classes is None:
        return answers
    places = [first + card.output_classes.index(name) for name in card.classes]
    after = range(first + len(card.output_classes), answers.shape[axis])
    others = [place for place, name in enumerate(card.output_classes) if name not in card.classes]
    if card.task in ("classification", "segmentation"):  # an answer that no image has is wrong
        places += others
    if card.task == "ocr" and others:  # answers that no text has are wrong, not silence: one more character for all
        best = answers[..., others].amax(dim=2, keepdim=True)
        answers, after = (
            torch.cat((answers, best), dim=2),
            range(answers.shape[2], first + len(card.output_classes) - 1, -1),
        )
    return answers.index_select(axis, torch.tensor([*range(first), *places, *after], device=answers.device))


def _logits(raw: Tensor, card: ArchitectureCard) -> Tensor:
    """Logits with one entry for each class: an activation is inverted, one logit for two classes becomes two.

    Raises:
        InvalidInput: an output of another shape, with both.
    """
    if card.task not in ("classification", "segmentation"):
        return raw
    raw = _without_activation(raw, card)
    classes, dims = len(card.output_classes or card.classes), 4 if card.task == "segmentation" else 2
    if raw.dim() == dims and raw.shape[1] == 1 and classes == 2:
        return torch.cat((torch.zeros_like(raw), raw), dim=1)
    if raw.dim() != dims or raw.shape[1] != classes:
        wanted = f"(N, {classes}, H, W)" if dims == 4 else f"(N, {classes})"
        raise InvalidInput(
            f"the model gives {tuple(raw.shape)}; {card.task} with {classes} classes is {wanted}: name the "
            "class of each output, in order, with --classes: names with commas, or a file with one a line"
        )
    return raw


def _without_activation(raw: Tensor, card: ArchitectureCard) -> Tensor:
    """Logits of what the network gives after a softmax or sigmoid."""
    if card.output_activation == "softmax":
        return raw.clamp(min=torch.finfo(raw.dtype).tiny).log()
    return torch.logit(raw, eps=TINY) if card.output_activation == "sigmoid" else raw


def _fits(layout: Layout, shape: torch.Size, classes: int) -> bool:
    axis = 1 if layout in _SECOND else 2
    return len(shape) == (4 if layout == "grid" else 3) and shape[axis] == _width(layout, classes)


def _width(layout: Layout, classes: int) -> int:
    """The numbers of one place: a detection after suppression has six, whatever the number of classes."""
    return _WIDTHS[layout] + (0 if layout in _FINAL else classes)


def _shape_of(layout: Layout, card: ArchitectureCard) -> str:
    wanted = _width(layout, len(card.output_classes or card.classes))
    if layout == "grid":
        return f"(N, {wanted}, rows, columns)"
    return f"(N, {wanted}, any)" if layout in _SECOND else f"(N, any, {wanted})"


def layout_of(task: TaskName, shape: torch.Size, classes: tuple[str, ...], parts: int = 1) -> Decoding | None:
    """The layout of an output of this shape; None for the task's plain one, or for a task that has none to choose.
    ``parts`` is of how many outputs it was joined.

    Raises:
        Refused: no layout fits, or several do; with the shape that each would have.
    """
    unlike = [layout for layout in LAYOUTS.get(task, ()) if layout not in ("boxes-background", *_FINAL)]
    tried = _OF_PARTS.get(parts, unlike)
    fitting = [layout for layout in tried if _fits(layout, shape, len(classes))]
    if len(fitting) == 1:
        return Decoding(layout=fitting[0]) if fitting[0] != LAYOUTS[task][0] else None
    if task not in LAYOUTS:
        return None
    known = [f"{layout}: {'N, channels, any' if layout in _SECOND else 'N, any, channels'}, with "
             f"{_width(layout, len(classes))} channels" for layout in LAYOUTS[task]]  # fmt: skip
    fault = f"{' and '.join(fitting)} both fit" if fitting else "no layout fits"
    raise Refused(f"the output is {tuple(shape)} for {len(classes)} classes: {fault}; name one with --decoding", known)


def _corners(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    return torch.cat((_boxed(raw, card, decoding, "xyxy", "shares"), _operating(raw[..., 4:], decoding.confidence)), 2)


def _after_background(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    return _corners(torch.cat((raw[..., :4], raw[..., 5:]), dim=2), card, decoding)


def _final(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    """Boxes, one confidence and a class number; a number that is no class is no detection."""
    classes = torch.arange(len(card.output_classes or card.classes), device=raw.device)
    own = raw[..., 5:].round() - int(decoding.layout == "detections-background") == classes
    sure = _operating(raw[..., 4:5], decoding.confidence) * own
    boxes = _boxed(raw, card, decoding, "xyxy", "pixels")
    return torch.cat((boxes, sure, torch.full_like(sure[..., :1], SUPPRESSED)), dim=2)


def _yolo_masks(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    return _yolo(raw[:, : 4 + len(card.output_classes or card.classes)], card, decoding)


def _yolo(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    rows = raw.transpose(1, 2)
    boxes = _boxed(rows, card, decoding, "cxcywh", "pixels")
    return torch.cat((boxes, _operating(rows[..., 4:], decoding.confidence)), dim=2)


def _yolo_objectness(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    sure = raw[..., 4:5] * raw[..., 5:]
    return torch.cat((_boxed(raw, card, decoding, "cxcywh", "pixels"), _operating(sure, decoding.confidence)), dim=2)


def _ctc(raw: Tensor, _card: ArchitectureCard, decoding: Decoding) -> Tensor:
    return raw if decoding.blank == "last" else torch.cat((raw[..., 1:], raw[..., :1]), dim=2)


def _ctc_channels(raw: Tensor, card: ArchitectureCard, decoding: Decoding) -> Tensor:
    return _ctc(raw.transpose(1, 2), card, decoding)


def _grid(raw: Tensor, _card: ArchitectureCard, decoding: Decoding) -> Tensor:
    """Reference: X. Ma (2022), FastestDet, https://github.com/dog-qiuqiu/FastestDet (its decoding of one head)."""
    _, _, rows, columns = raw.shape
    cell = raw.flatten(2).transpose(1, 2)
    places = torch.arange(rows * columns, device=raw.device)
    corner = torch.stack((places % columns, places // columns), dim=1).to(raw.dtype)
    centre = (corner + cell[..., 1:3].tanh()) / raw.new_tensor((columns, rows))
    half = cell[..., 3:5].sigmoid() / 2
    sure = cell[..., :1].clamp(min=TINY) ** 0.6 * cell[..., 5:].clamp(min=TINY) ** 0.4
    return torch.cat((centre - half, centre + half, _operating(sure, decoding.confidence)), dim=2)


def _boxed(raw: Tensor, card: ArchitectureCard, decoding: Decoding, corners: str, unit: str) -> Tensor:
    """The first four numbers as corners in shares; ``corners`` and ``unit`` are those of the layout."""
    boxes, corners = raw[..., :4], decoding.corners or corners
    if corners == "yxyx":
        boxes = boxes[..., [1, 0, 3, 2]]
    if (decoding.unit or unit) == "pixels":
        boxes = boxes / boxes.new_tensor((card.input.width, card.input.height) * 2)
    if corners != "cxcywh":
        return boxes
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), dim=2)


def _operating(sure: Tensor, point: float) -> Tensor:
    """Confidences moved, in logits, so that the operating point is one half; their order is unchanged."""
    if point == 0.5:
        return sure
    return torch.sigmoid(torch.logit(sure, eps=TINY) - math.log(point / (1 - point)))


_WIDTHS: dict[Layout, int] = {
    "boxes": 4, "boxes-background": 5, "yolo": 4, "yolo-masks": 36, "yolo-objectness": 5, "grid": 5, "detections": 6,
    "detections-background": 6, "ctc": 1, "ctc-channels": 1,
}  # fmt: skip
_SECOND = ("yolo", "yolo-masks", "grid", "ctc-channels")
"""Layouts whose second dimension holds the numbers of one place."""
_FINAL: tuple[Layout, ...] = ("detections", "detections-background")
_OF_PARTS: dict[int, tuple[Layout, ...]] = {2: ("boxes", "boxes-background"), 3: _FINAL}
"""Layouts of several outputs that were joined; all but the first are too like others to be recognised in one output."""
_DECODERS: dict[Layout, Callable[[Tensor, ArchitectureCard, Decoding], Tensor]] = {
    "boxes": _corners,
    "boxes-background": _after_background,
    "yolo": _yolo,
    "yolo-masks": _yolo_masks,
    "detections": _final,
    "detections-background": _final,
    "yolo-objectness": _yolo_objectness,
    "grid": _grid,
    "ctc": _ctc,
    "ctc-channels": _ctc_channels,
}


@dataclass(frozen=True)
class Model:
    """A module in eval mode and its card.  Calling it gives the audited output alone."""

    module: nn.Module
    card: ArchitectureCard

    def __post_init__(self) -> None:
        """Freeze the parameters: measuring needs no parameter gradients, and attacks pay for them twice."""
        self.module.eval().requires_grad_(False)
        install_preprocessing(self.module, self.card)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> Tensor:
        """``(N, C, H, W)`` float32 in 0..1, RGB or grey, to the audited output as the task takes it: logits
        ``(N, classes)`` for classification; see ``auditsvc.tasks`` for the others."""
        return decoded(self.raw(images), self.card, images.shape[-2:])

    def raw(self, images: Tensor) -> Tensor:
        """The audited output as the module gives it, in the layout that the card names."""
        return self.audited(self.module(_channels_last(images)))

    def fitted(self, images: Tensor) -> Tensor:
        """The images at the network's size, still in 0..1: what an exported file takes."""
        return fitted(images, self.card)

    def audited(self, answers: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> Tensor:
        """The answer that is audited, of all that the module gives: by its key, or by its place from 0.

        Raises:
            InvalidInput: there are several and the card names none of them, or they are no tensors.
        """
        if isinstance(answers, Tensor):
            return answers
        if isinstance(answers, Mapping):
            known = {str(name): answer for name, answer in answers.items()}
        else:
            names = getattr(self.module, "outputs", ()) or map(str, range(len(answers)))
            known = dict(zip(names, answers, strict=True))
        found = known.get(next(iter(known)) if len(known) == 1 else str(self.card.output))
        if not isinstance(found, Tensor):
            raise InvalidInput(f"the network has the outputs {', '.join(known)}: name one with --output")
        return found

    def with_card(self, card: ArchitectureCard) -> Model:
        """The same module and weights under another card; this model is left as it is."""
        module = copy.copy(self.module)
        module._forward_pre_hooks = OrderedDict()
        return Model(module, card)

    @property
    def layers(self) -> Model:
        """The same network as torch layers, which have gradients; itself, unless a runtime runs its file.

        Raises:
            Refused: a file that can't be converted, with every reason.
        """
        convert = getattr(self.module, "layers_for", None)
        return self if convert is None else convert(self.card)

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


def output_activation(model: Model, *, said: bool | None = None) -> OutputActivation | None:
    """The activation at the end of the network, by its answers to noise; ``said``: a person states that there is one.

    Rows that are never negative and always sum to 1 come of a softmax; logits do not by chance on 16 images.  A sigmoid
    is taken to be there only where it is said.
    """
    if model.card.task not in ("classification", "segmentation"):
        return None
    spec, noise = model.card.input, torch.Generator().manual_seed(0)
    images = torch.rand(16, spec.channels, spec.height, spec.width, generator=noise)
    with torch.inference_mode():
        raw = model.raw(images).float()
    if raw.dim() < 2 or bool((raw < 0).any()) or bool((raw > 1).any()):
        return None
    if raw.shape[1] > 1 and torch.allclose(raw.sum(1), torch.ones(()), atol=1e-3):
        return "softmax"
    return "sigmoid" if said else None


def _channels_last(images: Tensor) -> Tensor:
    """The same images with channels innermost.

    Torch calls a one-channel tensor contiguous in both orders and then picks its kernel by the strides, so the
    last bit of an answer would depend on how the images were loaded.  Here the strides are always the same.
    """
    _, channels, _, width = images.shape
    if images.stride()[1:] == (1, width * channels, channels):
        return images
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)
