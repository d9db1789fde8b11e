"""Options that say what a model file does not say about itself; what is not given comes from the data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditsvc.errors import InvalidInput

if TYPE_CHECKING:
    from auditsvc.datasets import Dataset
    from auditsvc.services.model_store import Question

Classes = Annotated[
    str | None, typer.Option(help="Of an ONNX file: class names, separated by commas. [default: the data set's]")
]
Image = Annotated[
    str | None, typer.Option(help="Of an ONNX file that leaves sizes open: channels x height x width, as 3x224x224.")
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


def question_from(
    dataset: Dataset,
    classes: str | None,
    image: str | None,
    output: str | None,
    layout: str | None,
    confidence: float | None,
) -> Question:
    """The question that an ONNX file answers: the task and the classes are the data set's.

    Raises:
        InvalidInput: options that don't fit, each by name.
    """
    from auditsvc.models import InputSpec
    from auditsvc.records.architecture import LAYOUTS, Decoding
    from auditsvc.services.model_store import Question

    task, spec, decoding = dataset.ref.task, None, None
    names = dataset.classes if classes is None else tuple(name.strip() for name in classes.split(","))
    if image is not None:
        try:
            channels, height, width = (int(number) for number in image.split("x"))
            spec = InputSpec(channels=channels, height=height, width=width)
        except ValueError as error:
            raise InvalidInput(f"--image takes CHANNELSxHEIGHTxWIDTH, for instance 3x224x224, not {image!r}") from error
    known = LAYOUTS.get(task, ())
    if layout is not None and layout not in known:
        raise InvalidInput(f"--decoding: {task} has no layout {layout!r}; it has {', '.join(known) or 'none'}")
    if confidence is not None and (layout is None or not 0 < confidence < 1):
        raise InvalidInput(f"--confidence takes a number between 0 and 1, with --decoding, not {confidence:g}")
    if layout is not None:
        decoding = Decoding.model_validate({"layout": layout, "confidence": confidence or 0.5})
    return Question(names, spec, output, task, decoding)


def with_architecture(
    question: Question, dataset: Dataset, architecture: str | None, preprocessing: str | None, *models: str | None
) -> Question:
    """The question with what is said about a state dict; a factory of the caller's own code may be called from now on.

    Raises:
        InvalidInput: preprocessing that can't be used, or for a model folder, whose card says it.
    """
    from dataclasses import replace

    from auditsvc.importing import is_model_folder
    from auditsvc.models import InputSpec
    from auditsvc.models.architectures import allow_architecture
    from auditsvc.models.preprocessing import preprocessing_of

    folders = [model for model in models if model and Path(model).is_dir() and is_model_folder(Path(model))]
    if preprocessing and folders:
        raise InvalidInput(f"--preprocessing is for model files; of a folder architecture.json says it: {folders[0]}")
    if architecture and ":" in architecture and not architecture.startswith(("timm:", "torchvision:")):
        allow_architecture(architecture, Path.cwd())
    channels, height, width = next(dataset.batches(1)).images.shape[1:]
    return replace(
        question,
        architecture=architecture,
        preprocessing=preprocessing_of(preprocessing) if preprocessing else None,
        seen=InputSpec(channels=channels, height=height, width=width),
    )
