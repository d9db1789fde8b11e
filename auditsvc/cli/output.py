"""What the commands share: options, the context of the store, and output as text or as one JSON object."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditsvc.errors import AuditError, InvalidInput

if TYPE_CHECKING:
    from pydantic import BaseModel

    from auditsvc.ports import Context
    from auditsvc.records import TaskName
    from auditsvc.records.architecture import ModelDescription
    from auditsvc.settings import Settings

Store = Annotated[
    Path | None,
    typer.Option(help="The store's folder. [default: $AUDITSVC_STORE or ./auditsvc-store]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Model = Annotated[str, typer.Argument(help="The model's name in the registry.")]
Version = Annotated[str, typer.Argument(help="The version in the registry.")]
PolicyName = Annotated[str, typer.Option("--policy", help="A policy file, or a shipped one by name.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the registry.")]
Source = Annotated[str, typer.Option(help="Where the parent comes from.")]
Licence = Annotated[str, typer.Option(help="The parent's licence.")]
ExpectAccuracy = Annotated[
    float | None,
    typer.Option(
        "--expect-accuracy",
        min=0,
        max=1,
        help="The parent's accuracy as its owner states it (0..1); the audit stops if it differs.",
    ),
]
Person = Annotated[str, typer.Option("--as", help="Your name, as the ledger records it.")]


def settings_for(store: Path | None) -> Settings:
    """The settings from the environment; a store on the command line wins.

    Raises:
        InvalidInput: lists every setting that can't be used.
    """
    from auditsvc.settings import Settings  # not in the verifier's distribution

    return Settings(store=store) if store else Settings()


def context_for(store: Path | None, *, create: bool = False, quiet: bool = True) -> Context:
    """The ports of the project that AUDITSVC_PROJECT names; see ``bootstrap.open_context``.

    Args:
        store: The store's folder, if the command line names one.
        create: Make the store if there is none: for commands that submit, measure or sign.
        quiet: Show no progress on the terminal, as with ``--json``.

    Raises:
        Unavailable: there is no store.
    """
    from auditsvc.bootstrap import open_context

    settings = settings_for(store)
    if quiet:
        return open_context(settings, settings.project, create=create)
    from auditsvc.adapters.structured_logs import ConsoleProgress

    return open_context(settings, settings.project, progress=ConsoleProgress(), create=create)


def wants_json() -> bool:
    """Whether this call asked for JSON; taken from the arguments, as an error may come before they are parsed."""
    return "--json" in sys.argv


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON object on standard output."""
    plain = value if isinstance(value, dict) else value.model_dump(mode="json", exclude_none=True)
    print(json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False))


def print_result(json: bool, value: BaseModel | dict[str, Any], *lines: str) -> None:
    """The result of a command: one JSON object with ``--json``, else these lines."""
    if json:
        print_json(value)
    else:
        print("\n".join(lines))


def command_group(help: str) -> typer.Typer:
    """A group of commands, which prints its help when it is called alone."""
    return typer.Typer(help=help, no_args_is_help=True, rich_markup_mode=None)


def print_lines(lines: Iterable[str], indent: int = 0) -> None:
    """Lines of text; on a terminal a long one is wrapped, its further lines indented."""
    for line in lines:
        if not sys.stdout.isatty():
            print(line)
            continue
        width = max(40, shutil.get_terminal_size().columns)
        print("\n".join(textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False)))


def fail(error: AuditError) -> int:
    """Say what went wrong, for people on standard error, for programs on standard output; the exit code."""
    if wants_json():
        reasons = list(error.reasons) if isinstance(error, InvalidInput) else []
        print_json({"error": {"code": error.code, "message": str(error).split("\n")[0], "reasons": reasons}})
    else:
        print(f"auditsvc: {error}", file=sys.stderr)
    return error.exit_code


Classes = Annotated[
    str | None,
    typer.Option(
        help="The model's classes in the order of its outputs: names with commas, or a file with one a line, JSON "
        "or YAML. [default: the data set's]"
    ),
]
Image = Annotated[
    str | None, typer.Option(help="Where the model file leaves sizes open: channels x height x width, as 3x224x224.")
]
Output = Annotated[
    str | None, typer.Option(help="Of several outputs the one that is audited; of a detector several joined by +.")
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--decoding",
        help="Of an ONNX file: the output's layout (boxes, yolo, yolo-objectness, ctc, ...), "
        "with :yxyx, :cxcywh, :shares or :pixels for boxes that are written otherwise.",
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        help="Of a state dict: timm:NAME, torchvision:NAME, or package.module:factory, which is called here, "
        "as it is or as factory(name=value)."
    ),
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


def _class_names(text: str) -> tuple[str, ...]:
    """Names with commas, or those of a file: one a line; a list or a mapping by number in JSON or YAML, or under
    ``names``, as Ultralytics writes it."""
    path = Path(text)
    if not path.is_file():
        return tuple(name.strip() for name in text.split(","))
    lines = path.read_text("utf-8-sig").splitlines()
    found: Any = [line.strip() for line in lines if line.strip()]
    if path.suffix in (".json", ".yaml", ".yml"):
        import yaml

        try:
            found = yaml.safe_load("\n".join(lines))
            found = found.get("names", found) if isinstance(found, dict) else found
            found = [found[key] for key in sorted(found, key=int)] if isinstance(found, dict) else list(found)
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise InvalidInput(f"{path} holds no list of class names: {' '.join(str(error).split())[:200]}") from error
    return tuple(map(str, found))


def _with_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """``shapes:make(width=8)`` as the factory and what it is given."""
    name, _, given = text.partition("(")
    if not given:
        return name, {}
    try:
        call = ast.parse(f"f({given}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("arguments are given by name")
        return name, {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise InvalidInput(f"--architecture takes FACTORY or FACTORY(name=value, ...), not {text!r}") from error


def described_by(
    task: TaskName | None, classes: str | None, image: str | None, output: str | None, layout: str | None,
    confidence: float | None, architecture: str | None, preprocessing: str | None,
) -> ModelDescription:  # fmt: skip
    """What the options say about a model; a factory of the caller's own code may be called from now on.

    Raises:
        InvalidInput: options that can't be used, each by name.
    """
    from pydantic import ValidationError

    from auditsvc.models import InputSpec
    from auditsvc.models.architectures import allow_architecture
    from auditsvc.models.preprocessing import preprocessing_of
    from auditsvc.records import faults_of
    from auditsvc.records.architecture import LAYOUTS, Decoding, ModelDescription

    said: dict[str, Any] = {}
    if classes is not None:
        said["classes"] = _class_names(classes)
    if image is not None:
        try:
            channels, height, width = (int(number) for number in image.split("x"))
            said["input"] = InputSpec(channels=channels, height=height, width=width)
        except ValueError as error:
            raise InvalidInput(f"--image takes CHANNELSxHEIGHTxWIDTH, for instance 3x224x224, not {image!r}") from error
    known = LAYOUTS.get(task, ()) if task else sum(LAYOUTS.values(), ())
    layout, *written = (layout or "").split(":")
    if layout and layout not in known:
        raise InvalidInput(f"--decoding: {task} has no layout {layout!r}; it has {', '.join(known) or 'none'}")
    if confidence is not None and (not layout or not 0 < confidence < 1):
        raise InvalidInput(f"--confidence takes a number between 0 and 1, with --decoding, not {confidence:g}")
    if layout:
        boxes = {"unit" if word in ("shares", "pixels") else "corners": word for word in written}
        try:
            said["decoding"] = Decoding.model_validate({"layout": layout, "confidence": confidence or 0.5} | boxes)
        except ValidationError as error:
            raise InvalidInput("--decoding can't be used", faults_of(error)) from error
    if preprocessing is not None:
        said["preprocessing"] = preprocessing_of(preprocessing)
    if architecture:
        architecture, arguments = _with_arguments(architecture)
        said |= {"arguments": arguments} if arguments else {}
    said |= {name: text for name, text in (("output", output), ("architecture", architecture)) if text is not None}
    if architecture and ":" in architecture and not architecture.startswith(("timm:", "torchvision:")):
        allow_architecture(architecture, Path.cwd())
    return ModelDescription(**said)
