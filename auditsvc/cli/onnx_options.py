"""Options that say what an ONNX file does not say about itself; what is not given comes from the data set."""

from __future__ import annotations

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
