"""Does the parent see the audit's images as it was trained to?  Tested before anything expensive.

A model that is given images in the wrong form (no mean and standard deviation, BGR, 0 to 255, classes in another order)
answers without an error, and every later figure is wrong.  So the parent first answers some hundred images as its card
says and as common mistakes would have it.  The audit stops where

* its answers can't be distinguished from guessing (permutation test) and are far from useful, or
* its accuracy is not the one that its owner states, or
* another form is better by at least ``MARGIN`` and significantly so (exact sign test on the same images, Bonferroni
  over everything tried); a class order is fitted on one half of the images and tested on the other, or
* its outputs are probabilities that the card does not declare.

A stated accuracy that is met overrules the third.  Of images that belong together (``cluster``) one each is used, so
that the tests' images are independent; with fewer than ``FEWEST`` nothing is tested, and that is said.

References: Q. McNemar (1947), doi:10.1007/BF02295996; B. Phipson and G. K. Smyth (2010), "Permutation P-values Should
Never Be Zero", doi:10.2202/1544-6115.1585.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import one_size, scaled_for
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.intervals import Interval, student, wilson
from auditsvc.importing import OnnxFile
from auditsvc.models import ArchitectureCard, Model
from auditsvc.models.model import PREDICTIONS
from auditsvc.models.preprocessing import PRESETS, fitted
from auditsvc.ports import Context
from auditsvc.records import Candidate, Parent
from auditsvc.records.architecture import Preprocessing
from auditsvc.services.model_store import load_stored
from auditsvc.tasks import Task, task_named

IMAGES, FIRST, FEWEST = 256, 64, 30
"""Images at most; those on which every form is tried first; the least for a test."""

LEVEL, MARGIN = 0.01, 0.05
PERMUTATIONS, BATCH, MOST_CLASSES = 999, 16, 100

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Scores ``(N,)`` in 0..1, answers and targets ``(N,)`` of one form; ``probabilities``: outputs sum to 1."""

    score: Numbers
    answer: NDArray[np.int64]
    target: NDArray[np.int64]
    probabilities: bool

    def interval(self, alpha: float = 0.025) -> Interval:
        """Of the mean score: Wilson's where scores are 0 or 1, else Student's."""
        total, images = self.score.sum(), len(self.score)
        if np.isin(self.score, (0, 1)).all():
            return wilson(total, images, alpha)
        return student(total, (self.score**2).sum(), images, alpha, 0.0, 1.0)

    def words(self) -> str:
        """``76.3 % (71.0 to 81.0 %, 256 images)``."""
        found = self.interval()
        return (
            f"{100 * float(found.value):.1f} % ({100 * float(found.low):.1f} to {100 * float(found.high):.1f} %, "
            f"{len(self.score)} images)"
        )


@dataclass(frozen=True)
class Trial:
    """Another form that was tried: what it is, its answers, the p-value that it is no better, and how much better."""

    form: str
    found: Answers
    p: float
    gain: float


def check_inputs(
    ctx: Context, candidate: Candidate, dataset: Dataset, seed: int, expected: float | None = None
) -> None:
    """Stop an audit whose models do not see the images as they were trained to.

    ``expected`` is the parent's accuracy (0..1) as its owner states it.  A candidate with other preprocessing than its
    parent's is tried with the parent's.

    Raises:
        InvalidInput: with the likely causes, each with the accuracy that the model would have.
    """
    parent = load_stored(ctx, ctx.ledger.get(Parent, candidate.parent).files).on(ctx.device)
    task = task_named(candidate.task, dataset.classes)
    if parent.card.classes != dataset.classes or parent.card.task != dataset.ref.task:
        return  # refused with its own message where the models are measured
    _require_size(parent.card, dataset)
    check_model("the parent", parent, task, dataset, seed, expected=expected)
    pruned = load_stored(ctx, candidate.files).on(ctx.device)
    if pruned.card.preprocessing != parent.card.preprocessing:
        forms = {"the parent's preprocessing": parent.card.preprocessing or Preprocessing()}
        check_model("the candidate", pruned, task, dataset, seed, forms=forms)


def _require_size(card: ArchitectureCard, dataset: Dataset) -> None:
    """A network that takes any size answers images of a wrong one without an error."""
    made, given, wanted = card.preprocessing, one_size(dataset), card.input
    scales = made is not None and bool(made.resize or made.crop)
    if given is None or (given.height, given.width) == (wanted.height, wanted.width):
        return
    if scales or card.architecture == PREDICTIONS:
        return
    raise InvalidInput(
        f"the model takes images of {wanted.height} x {wanted.width}, those of {dataset.ref.name} are {given.height} x "
        f"{given.width} (height x width): say how they are scaled with resize in its preprocessing"
    )


def check_model(
    name: str, model: Model, task: Task, dataset: Dataset, seed: int, *,
    forms: dict[str, Preprocessing] | None = None, expected: float | None = None,
) -> None:  # fmt: skip
    """Stop where ``model`` answers like guessing, not as ``expected``, or better in another form of the images.

    With ``forms`` these alone are tried, and a model that is only bad is no reason to stop.

    Raises:
        InvalidInput: see ``check_inputs``.
    """
    chosen = _sample(dataset, seed)
    given = _answers(model, task, dataset, chosen)
    if given is None:
        return
    reason = _reason(given, expected) if forms is None else ""
    if reason or (expected is None and given.score.mean() <= 1 - MARGIN):  # else no other form could be better by it
        runs = model.card.architecture != PREDICTIONS  # no other form can be tried where no model runs
        tried = (_forms(model, dataset, chosen) if runs else {}) if forms is None else forms
        trials = [] if len(chosen) < FEWEST else list(_tried(model, task, dataset, chosen, given, tried))
        if not reason and any(one.gain >= MARGIN and one.p * len(trials) <= LEVEL for one in trials):
            reason = "another form of the images is significantly better"
        if reason:
            raise _stopped(name, dataset, given, reason, trials)
    if forms is None and given.probabilities and model.card.output_activation is None:
        raise InvalidInput(
            f"{name}'s outputs are probabilities, so calibration, attacks and distillation would be wrong: declare it "
            'with "output_activation": "softmax" in architecture.json'
        )


def best_form(model: Model, dataset: Dataset, seed: int = 0) -> tuple[str, Preprocessing, str] | None:
    """The form of the images in which a model answers significantly better than it does: its name, what it is, and the
    mean score with its interval; None if there is none."""
    task, chosen = task_named(dataset.ref.task, dataset.classes), _sample(dataset, seed)
    given = _answers(model, task, dataset, chosen)
    if given is None or len(chosen) < FEWEST:
        return None
    forms = _forms(model, dataset, chosen)
    trials = [one for one in _tried(model, task, dataset, chosen, given, forms) if one.form in forms]
    better = [one for one in trials if one.gain >= MARGIN and one.p * len(trials) <= LEVEL]
    best = max(better, key=lambda one: float(one.found.score.mean()), default=None)
    return (best.form, forms[best.form], best.found.words()) if best else None


def _stopped(name: str, dataset: Dataset, given: Answers, reason: str, trials: list[Trial]) -> InvalidInput:
    best = sorted(trials, key=lambda one: -one.gain)[:8]
    reasons = [f"with {one.form} it would be {one.found.words()}" for one in best]
    return InvalidInput(
        f"{name} scores {given.words()} on {dataset.ref.name}: {reason}.  Nothing was judged.  Say how images are "
        "prepared (--preprocessing, or in architecture.json), correct the order of the classes, or state the accuracy "
        "with --expect-accuracy",
        reasons or [f"fewer than {FEWEST} independent images: nothing else was tried"],
    )


def _reason(given: Answers, expected: float | None) -> str:
    """Why the parent's own answers stop the audit; empty if they don't."""
    if expected is not None:
        found = given.interval(LEVEL / 2)
        if not float(found.low) <= expected <= float(found.high):
            return f"its owner states {100 * expected:.1f} %, which is outside the {100 - 100 * LEVEL:g} % interval"
        return ""
    images = len(given.score)
    if images < FEWEST:
        return ""
    if not given.score.any():
        return "no answer is right"
    if len(np.unique(given.target)) < 2:
        return ""
    draw = np.random.default_rng(0)
    agreeing = np.array([(given.answer == draw.permutation(given.target)).sum() for _ in range(PERMUTATIONS)])
    p = (1 + (agreeing >= (given.answer == given.target).sum()).sum()) / (PERMUTATIONS + 1)
    chance = agreeing.mean() / images
    if p > LEVEL and float(given.interval().high) < (1 + chance) / 2:
        return f"not distinguishable from guessing, {100 * chance:.1f} % (permutation test, p = {p:.2g})"
    return ""


def _sample(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """Independent images, drawn from the seed: one of each cluster."""
    order = np.random.default_rng(seed).permutation(dataset.ref.images)
    clusters = dataset.slices.clusters
    if clusters is not None:
        order = order[np.sort(np.unique(clusters[order], return_index=True)[1])]
    return order[:IMAGES].astype(np.int64)


def _answers(model: Model, task: Task, dataset: Dataset, chosen: NDArray[np.int64]) -> Answers | None:
    """None where the model does not run on these images: that is the measuring's to report."""
    parts: list[Any] = []
    likely = model.card.task == "classification"
    try:
        with torch.inference_mode():
            for batch in scaled_for(dataset, model.card).batches(BATCH, chosen):
                device = next((one.device for one in model.module.state_dict().values()), torch.device("cpu"))
                outputs = model(batch.images.to(device)).cpu()
                parts.append(task.score_batch(outputs, batch.targets))
                likely = likely and bool((outputs >= 0).all()) and torch.allclose(
                    outputs.sum(1), torch.ones(len(outputs)), atol=1e-3
                )  # fmt: skip
    except (RuntimeError, ValueError, IndexError, TypeError, InvalidInput):
        return None
    columns = [torch.cat([getattr(part, name) for part in parts]).numpy() for name in ("score", "answer", "target")]
    return Answers(columns[0].astype(np.float64), columns[1], columns[2], likely)


def _forms(model: Model, dataset: Dataset, chosen: NDArray[np.int64]) -> dict[str, Preprocessing]:
    """Common forms of an image that are not the card's, those that change one thing first."""
    card = model.card
    now = card.preprocessing or Preprocessing()
    plain = now.model_copy(update={"range": (0.0, 1.0), "mean": (), "std": (), "channels": "rgb"})
    channels = card.input.channels
    forms: dict[str, Preprocessing] = {}
    forms["inverted brightness (range: [1, 0])"] = now.model_copy(update={"range": now.range[::-1]})
    if channels == 3:
        other = "rgb" if now.channels == "bgr" else "bgr"
        forms[f"{other.upper()} channel order"] = now.model_copy(update={"channels": other})
    forms["layout nhwc"] = now.model_copy(update={"layout": "nhwc" if now.layout == "nchw" else "nchw"})
    if now.resize is not None:
        for mode in ("nearest", "bilinear", "bicubic"):
            for smooth in (True, False):
                changed = now.resize.model_copy(update={"mode": mode, "antialias": smooth})
                forms[f"resize {mode}{', antialias' if smooth else ''}"] = now.model_copy(update={"resize": changed})
        whole = now.resize.model_copy(update={"size": (card.input.height, card.input.width), "pad": None})
        forms["resize to the whole input, no crop"] = now.model_copy(update={"resize": whole, "crop": None})
        grey = whole.model_copy(update={"pad": round(114 / 255, 4), "antialias": False})
        forms["letterbox (resize with pad)"] = now.model_copy(update={"resize": grey, "crop": None})
    forms |= {
        f"the preprocessing {name!r} ({_fields(fields)})": plain.model_copy(update=fields)
        for name, fields in PRESETS.items()
    }
    mean, std = _statistics(card, next(scaled_for(dataset, card).batches(FIRST, chosen[:FIRST])).images)
    own = ", ".join(f"{value:.3f}" for value in mean), ", ".join(f"{value:.3f}" for value in std)
    forms[f"these images' own mean ({own[0]}) and std ({own[1]})"] = plain.model_copy(update={"mean": mean, "std": std})
    fits = model.module.takes if isinstance(model.module, OnnxFile) else lambda _made: True
    return {form: made for form, made in forms.items() if made != now and not made.faults(channels) and fits(made)}


def _fields(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items()) or "images as they are"


def _statistics(card: ArchitectureCard, given: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over these images."""
    images = fitted(given, card)
    if images.shape[1] not in (1, card.input.channels):
        images = images.mean(dim=1, keepdim=True)
    mean, std = images.mean(dim=(0, 2, 3)).tolist(), images.std(dim=(0, 2, 3)).clamp(min=1e-3).tolist()
    return tuple(round(value, 4) for value in mean), tuple(round(value, 4) for value in std)


def _tried(
    model: Model, task: Task, dataset: Dataset, chosen: NDArray[np.int64], given: Answers,
    forms: dict[str, Preprocessing],
) -> Iterator[Trial]:  # fmt: skip
    """Every form on the first images, the promising ones on all; each compared with what was given."""
    for form, made in forms.items():
        other = model.with_card(model.card.model_copy(update={"preprocessing": made}))
        first = _answers(other, task, dataset, chosen[:FIRST])
        if first is None:
            continue
        promising = first.score.mean() > given.score[:FIRST].mean() + MARGIN / 2
        found = _answers(other, task, dataset, chosen) if promising and len(chosen) > FIRST else first
        yield _trial(form, found or first, given.score)
    yield from _class_order(model, task, dataset, chosen, given)


def _trial(form: str, found: Answers, before: Numbers) -> Trial:
    change = found.score - before[: len(found.score)]
    won, lost = int((change > 0).sum()), int((change < 0).sum())
    p = float(stats.binomtest(won, won + lost, alternative="greater").pvalue) if won + lost else 1.0
    return Trial(form, found, p, float(change.mean()))


def _class_order(
    model: Model, task: Task, dataset: Dataset, chosen: NDArray[np.int64], given: Answers
) -> Iterator[Trial]:
    """The best order of the classes by one half of the images, tested on the other half, if it is another one."""
    card, half = model.card, len(chosen) // 2
    own = card.output_classes or card.classes
    names = [*card.classes, *(name for name in own if name not in card.classes)]
    counts = np.eye(len(names), len(card.classes)) / 2  # where nothing speaks against it, the order stays
    if not 1 < len(card.classes) <= MOST_CLASSES:
        return
    with torch.inference_mode():
        for batch in scaled_for(dataset, card).batches(BATCH, chosen[:half]):
            found = task.confusion(model(batch.images), batch.targets)
            if found is None:
                return
            counts[: len(found)] += found.numpy()
    outputs, classes = linear_sum_assignment(-counts)
    meant = dict(zip(outputs.tolist(), (names[place] for place in classes), strict=True))
    left = iter([name for name in names if name not in meant.values()])
    renamed = {name: meant.get(place) or next(left) for place, name in enumerate(names)}
    order = tuple(renamed[name] for name in own)
    if order == own:
        return
    tested = _answers(model.with_card(card.model_copy(update={"output_classes": order})), task, dataset, chosen[half:])
    if tested is not None:
        words = ", ".join(order[:12]) + (", ..." if len(order) > 12 else "")
        yield _trial(f"the outputs in the order {words}", tested, given.score[half:])
