"""An ONNX file that ONNX Runtime runs as it is, as a model like any other.

What ships is what is measured: nothing is converted, so every operator, number type and layout that ONNX Runtime knows
can be audited.  The graph is untrusted and is opened in a clean process only (``runtime_session``), which holds no
keys.  Where gradients are needed, and only there, ``Model.layers`` converts the file; the file itself still gives the
answers that count.

A graph may answer differently in batches of different sizes, by mistake or on purpose.  ``batch_faults`` compares many
sizes when a file is admitted, and ``batch_bound`` fixes the size at 1 unless a proof shows that no size matters; an
audit runs every image both in a batch and alone, and the worse answer counts.
"""

from __future__ import annotations

import ast
import functools
import re
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from auditsvc.errors import InvalidInput, Refused
from auditsvc.importing.clean_process import ONNX, is_model_folder, run_clean, scratch_folder
from auditsvc.importing.onnx_import import from_onnx, refuse_foreign
from auditsvc.importing.runtime_session import Outputs, RuntimeSession, ports_of
from auditsvc.models import CARD, WEIGHTS, ArchitectureCard, InputSpec, Model, load_model, read_card
from auditsvc.models.complexity import COMPRESSION
from auditsvc.models.model import decoded, layout_of, output_activation
from auditsvc.models.model_files import class_fields
from auditsvc.models.preprocessing import fitted, normalised
from auditsvc.records import TaskName
from auditsvc.records.architecture import Decoding, ModelDescription, Preprocessing, Resize
from auditsvc.runtimes import JOIN, Port, Runtime
from auditsvc.runtimes.onnxruntime import OnnxRuntime

ONNX_FILE = "onnx_file"
"""The architecture of a card whose model is the ONNX file in the same folder."""

SIZES = (2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 32, 33, 48, 64, 65, 100, 128, 256)
"""Batch sizes that are compared with one image at a time when a file is admitted."""
PROBES, MOST_NUMBERS = 8, 16 * 2**20
"""Different images among these, and the largest batch in numbers."""
TOLERANCE, HALF_TOLERANCE = 1e-3, 2e-2
"""The largest difference, relative to the largest output: of graphs in single precision and in half."""
FARTHEST, MOST_TURNED = 8.0, 0.3
"""The farthest corner of a box, in images, and the share of boxes with a negative side, beyond which they are no
corners in shares of the image."""
_OF_TENSORFLOW = JOIN.join(("detection_boxes", "detection_scores", "detection_classes"))
ULTRALYTICS_CONFIDENCE = 0.25
"""The operating point of Ultralytics' own ``predict``."""
_SERVED = ("float32", "float16", "float64", "uint8")
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class GraphInfo:
    """What an ONNX file says about itself."""

    image: Port
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    opset: int
    parameters: int
    nonzero: int

    def spec(self, seen: InputSpec | None = None) -> InputSpec | None:
        """The image that the input takes, channels first or last; sizes that the graph leaves open are those of
        ``seen``.  None where there are such sizes and nothing is seen."""
        first, second, third = self.image.shape[1:]
        last = first not in _CHANNELS and third in _CHANNELS
        sizes = (third, first, second) if last else (first, second, third)
        if seen is not None:
            open_ones = (seen.channels, seen.height, seen.width)
            sizes = tuple(size or other for size, other in zip(sizes, open_ones, strict=True))  # type: ignore[assignment]
        if None in sizes:
            return None
        return InputSpec.model_validate(dict(zip(("channels", "height", "width"), sizes, strict=True)))

    @functools.cached_property
    def detector_output(self) -> str | None:
        """What makes a detector's answer, where the types and shapes of several outputs leave one reading: boxes and
        confidences; boxes, one confidence and a class number; of Ultralytics' segmenters the boxes."""
        ranked = [(port, len(port.shape)) for port in self.outputs if len(port.shape)]
        if self.metadata.get("task") == "segment":
            return next((port.name for port, rank in ranked if rank == 3), None)
        boxes = [(port, rank - (port.shape[-2:] == (1, 4))) for port, rank in ranked if port.shape[-1] == 4]
        boxes = [(port, rank) for port, rank in boxes if rank in (2, 3)]
        if len(boxes) != 1:
            return None
        box, rank = boxes[0]
        rows = [port for port, other in ranked if port is not box and other == rank - 1]
        sure = [port for port in rows if port.type.startswith("float")]
        kind = [port for port in rows if port.type.startswith("int")]
        if not kind:
            sure = [port for port, other in ranked if port is not box and other == rank == 3]
        if len(sure) != 1 or len(kind) > 1:
            return None
        return JOIN.join(port.name for port in (box, *sure, *kind))

    @functools.cached_property
    def described(self) -> ModelDescription:
        """What an export says in its metadata: of Ultralytics the task, the classes and the preprocessing; of PaddleOCR
        and RapidOCR the characters, between the blank and a space; of TensorFlow's detectors the outputs by name."""
        letters = self.metadata.get("character", "").splitlines()
        if letters and all(len(letter) == 1 for letter in letters):
            classes = tuple(dict.fromkeys((*letters, " ")))
            decoding = Decoding(layout="ctc", blank="first")
            return ModelDescription(task="ocr", classes=classes, decoding=decoding)
        tasks = {"detect": "detection", "segment": "detection", "classify": "classification"}
        task = tasks.get(self.metadata.get("task", ""))
        if set(_OF_TENSORFLOW.split(JOIN)) <= {port.name for port in self.outputs}:
            written = Decoding(layout="detections-background", corners="yxyx", unit="shares")
            return ModelDescription(task="detection", output=_OF_TENSORFLOW, decoding=written)
        try:
            names = ast.literal_eval(self.metadata.get("names", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            names = None
        if task is None or not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            return ModelDescription()
        classes = tuple(names[key] for key in sorted(names))
        fields: dict[str, Any] = {"task": task, "classes": classes, "preprocessing": self._of_ultralytics(task)}
        sizes = self.outputs[0].shape[1:]
        if task == "detection" and len(sizes) == 2:  # its layouts are alike for some numbers of classes
            masked = 32 if self.metadata["task"] == "segment" else 0
            final = not masked and sizes[1] == 6 and sizes[0] != 4 + len(classes)
            fields["decoding"] = {"layout": "detections" if final else "yolo-masks" if masked else "yolo",
                                  "confidence": ULTRALYTICS_CONFIDENCE}  # fmt: skip
        return ModelDescription.model_validate(fields)

    def _of_ultralytics(self, task: TaskName) -> Preprocessing:
        """RGB in 0..1: of detectors padded with grey (``LetterBox``), of classifiers the middle of the image."""
        spec, said = self.spec(), re.findall(r"\d+", self.metadata.get("imgsz", ""))
        height, width = (spec.height, spec.width) if spec else (int(said[0]), int(said[-1])) if said else (0, 0)
        if not height:
            return Preprocessing()
        if task == "classification":
            return Preprocessing(resize=Resize(size=min(height, width)), crop=(height, width))
        return Preprocessing(resize=Resize(size=(height, width), antialias=False, pad=114 / 255))


class OnnxFile(nn.Module):
    """One ONNX file in ONNX Runtime; ``source`` is its path or its bytes, ``output`` the answer that is audited."""

    def __init__(self, source: Path | bytes, output: str | None = None) -> None:
        super().__init__()
        self._source, self._output = source, output
        files = source if isinstance(source, Path) else {ONNX: source}
        self._session = RuntimeSession(OnnxRuntime, files, threads=torch.get_num_threads())
        self._layers = dict[str, Model]()

    def choose(self, output: str | None) -> None:
        """Audit this output from now on, or those joined by ``+``."""
        self._output = output

    def detector_output(self, size: InputSpec) -> str | None:
        """``GraphInfo.detector_output``; where the file leaves shapes open, those of its answers count."""
        made, image = [], torch.full((1, size.channels, size.height, size.width), 0.5)
        for port in self.info.outputs:
            try:
                shape = (None, *self._session.answers(image, port.name).shape[1:]) if None in port.shape else port.shape
            except InvalidInput:  # without a batch
                shape = port.shape
            made.append(replace(port, shape=shape))
        return replace(self.info, outputs=tuple(made)).detector_output

    @functools.cached_property
    def info(self) -> GraphInfo:
        """What the file says about itself.

        Raises:
            Refused: no valid ONNX, or not one image input of a type that is served; with the input's name and shape.
        """
        said = self._session.said
        if said["reasons"]:
            raise Refused("ONNX Runtime can't run this ONNX file", said["reasons"])
        graph = said["graph"]
        ports = ports_of(graph, "inputs")
        if len(ports) != 1:
            raise Refused(
                f"the graph has {len(ports)} inputs ({'; '.join(map(str, ports))}); one image input is needed"
            )
        if ports[0].type not in _SERVED or len(ports[0].shape) != 4:
            raise Refused(
                f"the input {ports[0]} can't be given images: float, float16, double or uint8 is needed, as "
                "N x channels x height x width or N x height x width x channels"
            )
        outputs = ports_of(graph, "outputs")
        return GraphInfo(ports[0], outputs, graph["metadata"], graph["opset"], graph["parameters"], graph["nonzero"])

    @functools.cached_property
    def output(self) -> Port:
        """The output that is audited.

        Raises:
            Refused: there are several and none is named, or the named one is not there.
        """
        known = {port.name: port for port in self.info.outputs}
        name = self._output or (next(iter(known)) if len(known) == 1 else "")
        parts = name.split(JOIN)
        if name not in known and len(parts) in (2, 3) and known.keys() >= set(parts):
            return Port(name, known[parts[0]].type, (None, None, None))
        if name not in known:
            raise Refused(f"name one output of {'; '.join(map(str, known.values()))} (--output)")
        return known[name]

    def takes(self, made: Preprocessing) -> bool:
        """Whether the input can hold images that are prepared like this: bytes are made of 0..1, or given as bytes."""
        if self.info.image.type != "uint8" or made.dtype == "uint8":
            return True
        return not (made.mean or made.std) and min(made.range) >= 0 and max(made.range) <= 1

    @property
    def parts(self) -> int:
        """Of how many outputs of the graph the one that is audited is joined."""
        return 1 if self.output in self.info.outputs else len(self.output.name.split(JOIN))

    @functools.cached_property
    def data(self) -> bytes:
        """The whole file; weights that were in a companion file are inside."""
        if isinstance(self._source, bytes):
            return self._source
        return self._session.whole()

    def forward(self, images: Tensor) -> Tensor:
        """The answers in one batch."""
        return self.answers(images)

    def answers(self, images: Tensor, *, alone: bool = False) -> Tensor:
        """The answers to ``(N, C, H, W)`` float32 in 0..1; ``alone``: one image at a time.

        Raises:
            InvalidInput: images that need gradients, or that the graph can't run, with ONNX Runtime's words.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise InvalidInput("ONNX Runtime gives no gradients")
        try:
            return self._session.answers(images, self.output.name, alone=alone)
        except InvalidInput as error:
            what = f"{_sizes(images.shape)} through the input {self.info.image}"
            raise InvalidInput(f"ONNX Runtime can't run {what}", [str(error)]) from error

    def layers_for(self, card: ArchitectureCard) -> Model:
        """The same network as torch layers, which take (N, C, H, W) floats whatever the file takes.

        Raises:
            Refused: with every operator that can't be converted.
        """
        if self.output.name not in (port.name for port in self.info.outputs):
            raise Refused(f"the outputs {self.output.name} are joined after the graph, so it can't be converted")
        if card.digest not in self._layers:
            with tempfile.TemporaryDirectory(prefix="auditsvc-") as name:
                path = Path(name) / ONNX
                path.write_bytes(self.data)
                self._layers[card.digest] = from_onnx(path, card)
        return self._layers[card.digest]

    def facts(self) -> dict[str, float]:
        """What was counted: parameters, non-zeros, bytes; the multiply-accumulates of a graph are not known."""
        return {
            "parameters": float(self.info.parameters),
            "nonzero": float(self.info.nonzero),
            "bytes_dense": float(len(self.data)),
            "bytes_compressed": float(len(zlib.compress(self.data, COMPRESSION))),
        }


def open_folder(folder: Path) -> Model:
    """The model of a folder: a card with its weights, or a card with the ONNX file that it describes.

    Raises:
        Refused: with the reason and what would work.
    """
    if (folder / WEIGHTS).is_file() or not is_model_folder(folder):
        return load_model(folder)
    card = read_card((folder / CARD).read_bytes())
    if card.architecture != ONNX_FILE:
        raise Refused(f"{folder} is not a model folder: a {card.architecture} needs {WEIGHTS}")
    refuse_foreign(folder / ONNX)
    return Model(OnnxFile(folder / ONNX, card.output), card)


def _sizes(shape: torch.Size) -> str:
    return " x ".join(str(size) for size in shape)


def open_onnx(
    source: Path | bytes,
    said: ModelDescription,
    like: ModelDescription = ModelDescription(),  # noqa: B008 - frozen
) -> Model:
    """The model of an ONNX file, run by ONNX Runtime as it is.

    ``said`` wins over what the file says of itself; ``like`` is what the images say: the task, the classes in their
    order, and the size of one, which counts only where the graph leaves its sizes open.  The layout of a detector's or
    text recogniser's output is recognised by its shape; ``decoding`` names it where two fit.  A Softmax or Sigmoid at
    the end of a classifier is inverted, unless ``probabilities`` is False; with ``probabilities`` a Softmax is assumed.

    Raises:
        InvalidInput: nothing says the classes.
        Refused: a file that can't be run, or an output that does not fit the task and its classes; with shapes.
    """
    if isinstance(source, Path):
        refuse_foreign(source)
    module = OnnxFile(source)
    known = said.over(module.info.described).over(like)
    found, spec = module.info.spec(), said.input or module.info.spec(like.input)
    if spec is None:
        raise Refused(f"the input {module.info.image} leaves sizes open: name them with --image CHANNELSxHEIGHTxWIDTH")
    if known.preprocessing and not module.takes(known.preprocessing):
        raise Refused(f"the input {module.info.image} takes bytes, which mean, std or another range leave: say no "
                      "preprocessing, or dtype: uint8 with range: [0, 255]")  # fmt: skip
    if found is not None and found != spec:
        raise Refused(f"the input {module.info.image} does not take images of {spec}")
    detects = known.task in ("detection", "tracking") and len(module.info.outputs) > 1
    module.choose(known.output or (module.detector_output(spec) if detects else None))
    if not known.classes:
        raise InvalidInput("the ONNX file does not name its classes: pass the classes")
    if known.decoding and known.decoding.layout.endswith("-background") and _is_background(known.classes[0]):
        known = known.model_copy(update={"classes": known.classes[1:]})  # the layout counts it already
    task: TaskName = known.task or "classification"
    if like.task not in (None, task) and not said.task:
        raise Refused(f"the model is for {task} by its metadata; the data set is for {like.task}")
    name = module.output.name if len(module.info.outputs) > 1 else None
    shape = module.answers(torch.full((2, spec.channels, spec.height, spec.width), 0.5)).shape
    card = ArchitectureCard.model_validate({
        "architecture": ONNX_FILE, "task": task, "input": spec, "output": name, "preprocessing": known.preprocessing,
        "decoding": known.decoding or layout_of(task, shape, known.classes, module.parts),
        **class_fields(known.classes, like.classes, task),
    })  # fmt: skip
    model = Model(module, card)
    if known.probabilities is not False and task not in ("detection", "tracking"):
        last = {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(module.output.last)
        last = last or output_activation(model, said=known.probabilities)
        model = model.with_card(ArchitectureCard.model_validate(card.model_dump() | {"output_activation": last}))
    try:
        _require_shares(model(torch.rand((2, spec.channels, spec.height, spec.width), generator=_seeded())), card)
    except InvalidInput as error:
        raise Refused(f"the output {module.output} does not fit", [str(error)]) from error
    return model


def _is_background(name: str) -> bool:
    return name.strip("_ ").casefold() in ("background", "bg")


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _require_shares(answers: Tensor, card: ArchitectureCard) -> None:
    """A detector's shape does not say what its numbers are: pixels, centres, logits or offsets would be read wrongly.

    Raises:
        InvalidInput: boxes or confidences that are not what the layout says, on noise.
    """
    if card.task not in ("detection", "tracking") or not answers.numel():
        return
    layout = card.decoding.layout if card.decoding else "boxes"
    boxes, sure = answers[..., :4], answers[..., 4 : 4 + len(card.classes)]
    low, high = float(sure.min()), float(sure.max())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise InvalidInput(f"with the layout {layout} confidences reach from {low:.3g} to {high:.3g}, not from 0 to 1: "
                           "export it with its softmax or sigmoid, or name the layout with --decoding")  # fmt: skip
    far = float(boxes.abs().max())
    turned = float((boxes[..., 2:] < boxes[..., :2]).any(dim=-1).float().mean())
    if far > FARTHEST or turned > MOST_TURNED:
        raise InvalidInput(f"with the layout {layout} boxes reach to {far:.3g} times the image, {turned:.0%} of them "
                           "have a negative side, so they are in another form (pixels, centre and size, offsets from "
                           "anchors): name the layout with --decoding, or export decoded corners")  # fmt: skip


def runs_of(
    model: Model, files: Mapping[str, bytes], runtime: type[Runtime], precision: str | None = None
) -> tuple[Outputs, Outputs]:
    """What a runtime answers from a candidate's files, in a batch and one image at a time; ``model`` is the candidate.

    A file that was exported from layers does all of the preprocessing but the resizing itself.

    Raises:
        InvalidInput: no file for this runtime, or one that it can't run or that has another precision.
        Unavailable: the runtime is not installed, or this machine lacks the precision.
    """
    session, card = RuntimeSession(runtime, files, precision), model.card
    outputs = [port.name for port in ports_of(session.graph(), "outputs")]
    output = card.output if card.output in outputs else outputs[0]
    if card.output and JOIN in card.output and set(card.output.split(JOIN)) <= set(outputs):
        if runtime is not OnnxRuntime:
            raise InvalidInput(f"only ONNX Runtime joins the outputs {card.output}")
        output = card.output
    as_it_is = isinstance(model.module, OnnxFile)

    def run(images: Tensor, *, alone: bool) -> Tensor:
        given = normalised(fitted(images, card), card) if as_it_is else fitted(images, card)
        return decoded(session.answers(given, output, alone=alone), card, images.shape[-2:])

    return functools.partial(run, alone=False), functools.partial(run, alone=True)


def one_by_one(model: Model) -> Outputs:
    """The same model, given one image at a time."""
    module = model.module
    card = model.card
    if isinstance(module, OnnxFile):
        return lambda images: decoded(
            module.answers(normalised(fitted(images, card), card), alone=True), card, images.shape[-2:]
        )
    return lambda images: torch.cat([model(image) for image in torch.split(images, 1)])


def batch_bound(data: bytes, card: ArchitectureCard, output: str) -> tuple[bytes, str]:
    """An ONNX file as it may be admitted, and why its batch size was fixed at 1; empty if every size gives an image the
    same answer, by ``batch_independence``, or the file fixes the size itself."""
    size = card.input
    shape, chance = (2, size.channels, size.height, size.width), _seeded()
    with scratch_folder() as scratch:
        (scratch / ONNX).write_bytes(data)
        save_file({"images": torch.rand(shape, generator=chance)}, scratch / "images.safetensors")
        job = {"onnx": str(scratch / ONNX), "images": str(scratch / "images.safetensors"), "output": output}
        (said,) = run_clean("auditsvc.importing.batch_independence", job, scratch, seconds=600.0)
        objection = str(said["objection"])
        return (scratch / "fixed.onnx").read_bytes() if objection else data, objection


def batch_faults(model: Model, images: Tensor) -> tuple[str, ...]:
    """Every batch size at which an image's answer is not the one that it gets alone; none if there is no such size."""
    images, tolerance = images[:PROBES], TOLERANCE
    if isinstance(model.module, OnnxFile) and "float16" in model.module.info.image.type + model.module.output.type:
        tolerance = HALF_TOLERANCE
    with torch.inference_mode():
        wanted = one_by_one(model)(images)
    if not bool(torch.isfinite(wanted).all()):
        return ("it gives NaN or infinity",)
    reasons, scale = [], max(1.0, float(wanted.abs().max()))
    for size in SIZES:
        if size * images[0].numel() > MOST_NUMBERS:
            break
        places = torch.arange(size) % len(images)
        with torch.inference_mode():
            found = model(images[places])
        if found.shape != wanted[places].shape:
            reasons.append(f"a batch of {size} gives {_sizes(found.shape)}, not {_sizes(wanted[places].shape)}")
        elif not float((found - wanted[places]).abs().max()) <= tolerance * scale:
            gap = float((found - wanted[places]).abs().max())
            reasons.append(f"in a batch of {size} answers differ by {gap:.3g} from those to the same images alone")
    return tuple(reasons)
