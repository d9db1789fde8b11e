"""What ``init`` and ``model check`` find out before an audit: what models are, and how they answer some of the images.

Preprocessing that a model file does not state is tried: each common one on the same images, and the best is proposed
only where it is better than all others beyond chance.  A person confirms it in ``audit.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import one_size, scaled_for
from auditsvc.errors import InvalidInput, Refused
from auditsvc.evaluation import wilson
from auditsvc.evaluation.paired import Predictions, empty_predictions
from auditsvc.importing import ModelRecognition, open_folder, recognise_model
from auditsvc.models import Model
from auditsvc.ports import Context
from auditsvc.records import Value
from auditsvc.records.architecture import ArchitectureCard, ModelDescription, Preprocessing, Resize
from auditsvc.services.model_store import located, resolve_model, said_by
from auditsvc.services.parent_check import best_form
from auditsvc.tasks import Task, task_named

TRIED, SHOWN = 200, 10
"""Images that are answered, and those whose answers are shown."""

ALPHA = 0.05


class Tried(Value):
    """The mean score of a model on some images, with the ends of its 90 % interval where answers are right or wrong."""

    value: float
    low: float | None = None
    high: float | None = None
    images: int

    def text(self) -> str:
        """``97.5 % (95.1 to 98.8)``."""
        ends = f" ({100 * self.low:.1f} to {100 * self.high:.1f})" if self.low is not None and self.high else ""
        return f"{100 * self.value:.1f} %{ends}"


@dataclass(frozen=True)
class Proposal:
    """Preprocessing that a model file does not state: the one that was found, and its answers and those without it."""

    preprocessing: Preprocessing
    note: str


@dataclass(frozen=True)
class Example:
    """One image: its name, its target, and each model's answer."""

    image: str
    truth: str
    answers: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Preview:
    """How models answer the same images: the score of each, and some answers."""

    scores: tuple[Tried, ...]
    examples: tuple[Example, ...]


def spread_images(dataset: Dataset, most: int = TRIED) -> NDArray[np.int64]:
    """Images spread evenly over the data set, in order."""
    count = dataset.ref.images
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def answered(model: Model, dataset: Dataset, chosen: NDArray[np.int64], task: Task) -> Predictions:
    """What a model answers on these images.

    Raises:
        InvalidInput: the model can't take the images, with both sizes.
    """
    found, start = empty_predictions(len(chosen), task.tally_size), 0
    for batch in scaled_for(dataset, model.card).batches(32, chosen):
        channels, height, width = batch.images.shape[1:]
        part = found[start : start + len(batch.indices)]
        start += len(batch.indices)
        try:
            with torch.inference_mode():
                judged = task.score_batch(model(batch.images), batch.targets)
            for name in found.dtype.names or ():
                part[name] = getattr(judged, name).numpy()
        except (RuntimeError, IndexError) as error:
            spec = model.card.input
            raise InvalidInput(
                f"the model takes images of {spec.channels} x {spec.height} x {spec.width}, those of "
                f"{dataset.ref.name} are {channels} x {height} x {width}: {str(error).splitlines()[0][:200]}"
            ) from error
    return found


def score_of(found: Predictions) -> Tried:
    """The mean score, with Wilson's interval where every answer is right or wrong."""
    scores = found["score"].astype(float)
    if not np.isin(scores, (0, 1)).all():
        return Tried(value=float(scores.mean()), images=len(scores))
    interval = wilson(scores.sum(), len(scores), ALPHA)
    return Tried(value=float(scores.mean()), low=float(interval.low), high=float(interval.high), images=len(scores))


def propose_preprocessing(model: Model, dataset: Dataset) -> Proposal:
    """The common preprocessing with which a model answers best; without any, where none is better beyond chance.

    Raises:
        InvalidInput: the model can't take the images.
    """
    task, chosen = task_named(dataset.ref.task, dataset.classes), spread_images(dataset)
    fitting = sized(Preprocessing(), model.card, dataset)
    scaled = "scaled to the network's size; " if fitting.resize else ""
    model = model.with_card(model.card.model_copy(update={"preprocessing": fitting}))
    plain = score_of(answered(model, dataset, chosen, task))
    best = best_form(model, dataset)
    if best is None:
        return Proposal(fitting, f"{scaled}none of the common ones is better than none, {plain.text()}")
    form, made, words = best
    return Proposal(made, f"{scaled}with {form} {words} are right, without any {plain.text()}")


def sized(made: Preprocessing, card: ArchitectureCard, dataset: Dataset) -> Preprocessing:
    """With what brings the images to the network's size and channels, where they have others and nothing does."""
    given, channels = one_size(dataset), next(dataset.batches(1)).images.shape[1]
    size, fields = (card.input.height, card.input.width), dict[str, Any]()
    if (given is None or (given.height, given.width) != size) and not (made.resize or made.crop):
        fields["resize"] = Resize(size=size)
    if (channels, card.input.channels) == (3, 1):
        fields["channels"] = "grey"
    return made.model_copy(update=fields)


@dataclass(frozen=True)
class Inspection:
    """What a model is: ``found`` is what its files say, ``model`` the opened one, if what is known is enough for that.

    ``shape`` is that of its output for one image, ``preprocessing`` how images are prepared and who says so,
    ``unmeasured`` what no audit of it can measure, each with the reason.
    """

    found: ModelRecognition
    model: Model | None = None
    shape: tuple[int, ...] = ()
    preprocessing: str = ""
    shown: Preview | None = None
    unmeasured: tuple[str, ...] = ()


def inspect_model(ctx: Context, source: str, said: ModelDescription, dataset: Dataset | None = None) -> Inspection:
    """What the model that ``source`` names is, and with a data set how it answers.

    Raises as ``resolve_model``.
    """
    with located(ctx, source) as path:
        found = recognise_model(path, said)
        like = said_by(dataset) if dataset else ModelDescription()
        known = found.known.over(like)
        if not known.classes or known.input is None or (found.format == "state dict" and not known.architecture):
            return Inspection(found)
        with resolve_model(ctx, str(path), said, like, layers=False) as folder:
            model, words = open_folder(folder), "images as they are; nothing says how they are to be prepared"
            if found.known.preprocessing is not None:
                fitting = (
                    sized(found.known.preprocessing, model.card, dataset) if dataset else found.known.preprocessing
                )
                model = model.with_card(model.card.model_copy(update={"preprocessing": fitting}))
                made = fitting.model_dump(mode="json", exclude_defaults=True)
                words = ", ".join(f"{name} {value}" for name, value in made.items()) or "none: images as they are"
            elif dataset is not None:
                proposal = propose_preprocessing(model, dataset)
                words = f"not stated by the file: {proposal.note}"
                model = model.with_card(model.card.model_copy(update={"preprocessing": proposal.preprocessing}))
            size = model.card.input
            with torch.inference_mode():
                shape = model.raw(torch.full((1, size.channels, size.height, size.width), 0.5)).shape[1:]
            shown = preview((model,), dataset) if dataset else None
            return Inspection(found, model, tuple(shape), words, shown, _unmeasured(model))


def _unmeasured(model: Model) -> tuple[str, ...]:
    try:
        _ = model.layers
    except Refused as error:
        why = "; ".join(error.reasons) or str(error)
        return (f"attacks with gradients, and no pruning or watermark here: it can't be converted to layers: {why}",)
    return ()


def preview(models: Sequence[Model], dataset: Dataset) -> Preview:
    """The answers of these models on at most 200 images, ten of them to show.

    Raises:
        InvalidInput: a model that can't take the images.
    """
    task, chosen = task_named(dataset.ref.task, dataset.classes), spread_images(dataset)
    found = [answered(model, dataset, chosen, task) for model in models]
    shown = np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), SHOWN)).round().astype(np.int64))
    return Preview(
        scores=tuple(score_of(one) for one in found),
        examples=tuple(
            Example(
                image=dataset.name_of(int(chosen[place])),
                truth=task.describe_target(dataset.target_of(int(chosen[place]))),
                answers=tuple(task.describe_answer(one[place]) for one in found),
                scores=tuple(float(one["score"][place]) for one in found),
            )
            for place in shown
        ),
    )
