"""The architecture card of a model, and what people say about a model file that does not describe itself.

The card is ``architecture.json``, stored with the weights: the architecture by name, its input, how images are
prepared for it, and how to decode its output.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Name, Record, TaskName, Value

CARD = "architecture.json"
"""The name of the card in a model folder."""

Layout = Literal[
    "boxes", "boxes-background", "yolo", "yolo-masks", "yolo-objectness", "grid", "detections", "detections-background",
    "ctc", "ctc-channels",
]  # fmt: skip
_DETECTORS: tuple[Layout, ...] = (
    "boxes", "boxes-background", "yolo", "yolo-masks", "yolo-objectness", "grid", "detections", "detections-background"
)  # fmt: skip

LAYOUTS: dict[TaskName, tuple[Layout, ...]] = {
    "detection": _DETECTORS,
    "tracking": _DETECTORS,
    "ocr": ("ctc", "ctc-channels"),
}
"""The layouts of each task, the plain one first; other tasks have none to choose."""

SUPPRESSED = -1.0
"""In place of the confidence of one more class: the detection has been through non-maximum suppression."""

OutputActivation = Literal["softmax", "sigmoid"]
"""What the network applies to its logits at the end; it is inverted, so that every check sees logits."""


class Decoding(Value):
    """How the output is laid out.

    ``boxes``: (N, A, 4 + C), corners in shares of the image, then a confidence for each class; ``boxes-background``:
    with the background's before them.  ``yolo``: (N, 4 + C, A), centre and size in pixels of the input, then
    confidences; ``yolo-masks``: 32 more numbers, which are not read.  ``yolo-objectness``: (N, A, 5 + C), with
    a confidence that there is anything, which multiplies them.  ``detections``: (N, A, 6) after non-maximum
    suppression, corners in pixels of the input, confidence, number of the class; ``detections-background``: class 0 is
    the background.  ``grid``: (N, 5 + C, H, W), FastestDet's head; for
    each cell the confidence that there is anything, centre and size before tanh and sigmoid, then confidences.
    ``ctc``: (N, T, C + 1); ``ctc-channels``: (N, C + 1, T).
    ``confidence`` is the model's operating point: detections below it are not selected.  ``blank`` is the
    position of the blank among the characters.  ``corners`` (``cxcywh``: centre and size) and ``unit`` (pixels of the
    input, or shares of it) are said where boxes are not written as the layout has them; ``grid`` has its own.
    """

    layout: Layout
    corners: Literal["xyxy", "yxyx", "cxcywh"] | None = None
    unit: Literal["shares", "pixels"] | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.5
    blank: Literal["first", "last"] = "last"


class InputSpec(Value):
    """What the network takes for one image: ``channels`` x ``height`` x ``width``."""

    channels: Annotated[int, Field(ge=1, le=16)]
    height: Annotated[int, Field(ge=1, le=8192)]
    width: Annotated[int, Field(ge=1, le=8192)]


Side = Annotated[int, Field(ge=1, le=8192)]


class Resize(Value):
    """Scaling before the crop: to (height, width), or the shorter side to one number.

    With ``pad`` (letterbox) the image keeps its proportions in the middle of (height, width); the rest has this value
    of 0..1.
    """

    size: Side | tuple[Side, Side]
    mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    pad: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pad is not None and isinstance(self.size, int):
            raise ValueError("pad goes with a size of height and width")
        return self


class Preprocessing(Value):
    """What is done to an RGB or grey image in 0..1 before the network, in the order of the fields.

    ``range`` maps 0..1 linearly (``[0, 255]``, ``[-1, 1]``); ``mean`` and ``std`` are in the units of that range, one
    number or one for each channel.  Images that already have the network's size are neither resized nor cropped.
    """

    resize: Resize | None = None
    crop: tuple[Side, Side] | None = None
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    layout: Literal["nchw", "nhwc"] = "nchw"

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.range[0] == self.range[1]:
            raise ValueError("range maps all pixels to one number")
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be greater than 0")
        if self.dtype == "uint8" and (self.mean or self.std or self.range != (0.0, 255.0)):
            raise ValueError("uint8 goes with range [0, 255] and without mean and std")
        return self

    def faults(self, channels: int) -> tuple[str, ...]:
        """Why it does not fit a network with this many input channels; none means that it does."""
        wrong = [name for name in ("mean", "std") if len(getattr(self, name)) not in (0, 1, channels)]
        faults = [
            f"preprocessing.{name} has {len(getattr(self, name))} numbers for {channels} channels" for name in wrong
        ]
        if channels != {"rgb": channels, "bgr": 3, "grey": 1}[self.channels]:
            faults.append(f"preprocessing.channels {self.channels} does not go with {channels} input channels")
        return tuple(faults)


class ArchitectureCard(Record):
    """``architecture.json``: the architecture by name, never code.

    ``output`` names the answer that is audited where the architecture has several, or those that make it, joined by
    ``+``: boxes, confidences and, after non-maximum suppression, class numbers.  ``decoding`` says how it is laid out
    where the task knows several layouts.  ``output_classes`` are the classes in the order of the network's outputs,
    where that is not ``classes``; there may be more, and answers with those are wrong.  ``preprocessing`` is part of
    the model, so that every check works in the image's own units, RGB or grey in 0..1; without it images go in as they
    are.
    """

    kind: ClassVar[str] = "architecture"

    architecture: Name
    arguments: dict[str, Any] = {}
    task: TaskName
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input: InputSpec
    output: str | None = None
    decoding: Decoding | None = None
    preprocessing: Preprocessing | None = None
    output_activation: OutputActivation | None = None
    output_classes: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        outputs = self.output_classes or self.classes
        if len(set(outputs)) != len(outputs) or not set(self.classes) <= set(outputs):
            raise ValueError("output_classes must have every class")
        own = LAYOUTS.get(self.task, ())
        if self.decoding is not None and self.decoding.layout not in own:
            known = ", ".join(own) or "none"
            raise ValueError(f"{self.task} has no layout {self.decoding.layout!r}; it has {known}")
        if self.preprocessing is not None and (faults := self.preprocessing.faults(self.input.channels)):
            raise ValueError("; ".join(faults))
        return self


class ModelDescription(Value):
    """What is said about a model file that does not describe itself; what is absent is read from the file.

    ``architecture`` is ``timm:NAME``, ``torchvision:NAME``, ``package.module:factory`` or an installed architecture's
    name, ``arguments`` what its factory takes.  ``probabilities`` says that the outputs are no logits.
    """

    architecture: Annotated[str, Field(max_length=300)] | None = None
    arguments: dict[str, Any] = {}
    task: TaskName | None = None
    classes: tuple[str, ...] = ()
    input: InputSpec | None = None
    output: str | None = None
    decoding: Decoding | None = None
    preprocessing: Preprocessing | None = None
    probabilities: bool | None = None

    def over(self, other: ModelDescription) -> ModelDescription:
        """This description, with what it does not say taken from another one; a default says nothing."""
        said = {name: getattr(self, name) for name in self.model_fields_set}
        return other.model_copy(update={name: value for name, value in said.items() if value not in (None, (), {})})
