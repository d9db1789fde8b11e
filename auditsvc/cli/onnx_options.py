"""Options that say what a model file does not say about itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.records import TaskName
    from auditsvc.records.architecture import ModelDescription

Classes = Annotated[
    str | None,
    typer.Option(help="The model's classes in the order of its outputs. [default: the data set's]"),
]
Image = Annotated[
    str | None, typer.Option(help="Where the model file leaves sizes open: channels x height x width, as 3x224x224.")
]
Output = Annotated[str | None, typer.Option(help="Of an ONNX file: the output that is audited.")]
Layout = Annotated[
    str | None,
    typer.Option("--decoding", help="Of an ONNX file: the output's layout (boxes, yolo, yolo-objectness, ctc, ...)."),
]
Architecture = Annotated[
    str | None,
    typer.Option(help="Of a state dict: timm:NAME, torchvision:NAME, or package.module:factory, which is called here."),
]
Prepared = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        help="How an image in 0..1 becomes the network's input: imagenet, cifar10, caffe, 0-255, ..., or YAML such as "
        "'mean: [0.5], std: [0.5], channels: bgr'.",
    ),
]
Confidence = Annotated[
    float | None, typer.Option(help="Of an ONNX detector: detections below it are not counted. [default: 0.5]")
]


def described_by(
    task: TaskName | None, classes: str | None, image: str | None, output: str | None, layout: str | None,
    confidence: float | None, architecture: str | None, preprocessing: str | None,
) -> ModelDescription:  # fmt: skip
    """What the options say about a model; a factory of the caller's own code may be called from now on.

    Raises:
        InvalidInput: options that can't be used, each by name.
    """
    from auditsvc.models import InputSpec
    from auditsvc.models.architectures import allow_architecture
    from auditsvc.models.preprocessing import preprocessing_of
    from auditsvc.records.architecture import LAYOUTS, Decoding, ModelDescription

    said: dict[str, Any] = {}
    if classes is not None:
        said["classes"] = tuple(name.strip() for name in classes.split(","))
    if image is not None:
        try:
            channels, height, width = (int(number) for number in image.split("x"))
            said["input"] = InputSpec(channels=channels, height=height, width=width)
        except ValueError as error:
            raise InvalidInput(f"--image takes CHANNELSxHEIGHTxWIDTH, for instance 3x224x224, not {image!r}") from error
    known = LAYOUTS.get(task, ()) if task else sum(LAYOUTS.values(), ())
    if layout is not None and layout not in known:
        raise InvalidInput(f"--decoding: {task} has no layout {layout!r}; it has {', '.join(known) or 'none'}")
    if confidence is not None and (layout is None or not 0 < confidence < 1):
        raise InvalidInput(f"--confidence takes a number between 0 and 1, with --decoding, not {confidence:g}")
    if layout is not None:
        said["decoding"] = Decoding.model_validate({"layout": layout, "confidence": confidence or 0.5})
    if preprocessing is not None:
        said["preprocessing"] = preprocessing_of(preprocessing)
    said |= {name: text for name, text in (("output", output), ("architecture", architecture)) if text is not None}
    if architecture and ":" in architecture and not architecture.startswith(("timm:", "torchvision:")):
        allow_architecture(architecture, Path.cwd())
    return ModelDescription(**said)
