"""Sharded audits: several processes each run part of every pass over the images, and the last one merges the results.

A shard consists of whole batches, so each image is evaluated in the same batch as in a single process, and its answer
is bit-identical however many shards there are.  What cannot be sharded (a check's own computation, a disturbance
without a cache key) is measured at the merge: slower, with the same result.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Batch
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.context import Attacks, Disturbance, EvalContext
from auditsvc.evaluation.fingerprint import fingerprint
from auditsvc.evaluation.paired import Pair, Predictions, empty_predictions, packed, unpacked
from auditsvc.models import Model
from auditsvc.records import Digest, Reading

PartialResults = dict[str, Predictions]
"""Answers by what was done: which model answered, to images changed how, against whom, and which of them."""


@dataclass(frozen=True)
class ImageRange:
    """The part ``number``, from 0, of ``of`` parts of every pass."""

    number: int
    of: int

    def rows(self, images: int, size: int) -> slice:
        """The shard's range in a pass over ``images`` images in batches of ``size``: whole batches, maybe none."""
        batches = -(-images // size)
        first, last = batches * self.number // self.of, batches * (self.number + 1) // self.of
        return slice(min(first * size, images), min(last * size, images))


@dataclass
class ShardContext(EvalContext):
    """Runs one part of every pass and keeps what it ``found``.  The readings that it gives mean nothing."""

    part: ImageRange = field(default_factory=lambda: ImageRange(0, 1))
    found: PartialResults = field(default_factory=dict)
    _only: slice | None = field(default=None, repr=False)

    def readings(self, pair: Pair, *, errors_apart: bool = False) -> Iterator[Reading]:  # noqa: ARG002
        """None: there is nothing to be said of a part."""
        yield from ()

    def batches(self, chosen: NDArray[np.int64] | None) -> Iterator[Batch]:
        """The shard's own batches during a pass, else all batches."""
        if self._only is not None:
            images = np.arange(self.dataset.ref.images) if chosen is None else chosen
            chosen = images[self._only]
        yield from super().batches(chosen)

    def _disturbed(
        self, models: Sequence[Model], name: str, disturb: Disturbance | None, stream: str
    ) -> list[Predictions]:
        done = fingerprint(disturb)
        keys = [key_of(self, model, model, name, done) for model in models]
        total = self.dataset.ref.images
        with _Pass(self, total) as images:
            known = images and done
            answers = super()._disturbed(models, name, disturb, stream) if known else self._nothing(total, len(models))
        self._keep(keys, answers, images)
        return answers

    def _attacked(
        self, target: Model, evaluated: Model, names: Sequence[str], attacks: Attacks, chosen: NDArray[np.int64] | None
    ) -> list[Predictions]:
        done = fingerprint((attacks, tuple(names)))
        keys = [key_of(self, target, evaluated, f"{name}|{self._sample_key(chosen)}", done) for name in names]
        total = self.dataset.ref.images if chosen is None else len(chosen)
        with _Pass(self, total) as images:
            known = images and done
            attacked = super()._attacked(target, evaluated, names, attacks, chosen) if known else None
        answers = self._nothing(total, len(names)) if attacked is None else attacked
        self._keep(keys, answers, images)
        return answers

    def _nothing(self, images: int, many: int) -> list[Predictions]:
        return [empty_predictions(images, self.task.tally_size) for _ in range(many)]

    def _keep(self, keys: Iterable[str | None], answers: Iterable[Predictions], images: int) -> None:
        for key, one in zip(keys, answers, strict=True):
            if key is not None:
                self.found[key] = one[:images]


class _Pass:
    """While it lasts, the case sees its own part of the batches only; gives how many images that is."""

    def __init__(self, case: ShardContext, images: int) -> None:
        self._case, self._rows = case, case.part.rows(images, case.batch_size)

    def __enter__(self) -> int:
        self._case._only = self._rows
        return int(self._rows.stop - self._rows.start)

    def __exit__(self, *_: object) -> None:
        self._case._only = None


@dataclass
class GatheredContext(EvalContext):
    """A case that has been measured in parts; what is missing is measured now."""

    found: PartialResults = field(default_factory=dict)

    def _disturbed(
        self, models: Sequence[Model], name: str, disturb: Disturbance | None, stream: str
    ) -> list[Predictions]:
        done = fingerprint(disturb)
        known = [self._known(key_of(self, model, model, name, done)) for model in models]
        missing = [model for model, one in zip(models, known, strict=True) if one is None]
        now = iter(super()._disturbed(missing, name, disturb, stream) if missing else ())
        return [next(now) if one is None else one for one in known]

    def _attacked(
        self, target: Model, evaluated: Model, names: Sequence[str], attacks: Attacks, chosen: NDArray[np.int64] | None
    ) -> list[Predictions]:
        done = fingerprint((attacks, tuple(names)))
        sample = self._sample_key(chosen)
        known = [self._known(key_of(self, target, evaluated, f"{name}|{sample}", done)) for name in names]
        found = [one for one in known if one is not None]
        return found if len(found) == len(names) else super()._attacked(target, evaluated, names, attacks, chosen)

    def _known(self, key: str | None) -> Predictions | None:
        return None if key is None else self.found.get(key)


def key_of(case: EvalContext, target: Model, evaluated: Model, name: str, done: str | None) -> str | None:
    """What one model answered to images that were changed against another, in words; None where there are none."""
    if done is None:
        return None
    against, answers = (_digest(case, model) for model in (target, evaluated))
    return f"{against}>{case._key(answers, name, done)}"


def _digest(case: EvalContext, model: Model) -> Digest:
    return case.candidate_digest if model is case.candidate else case.parent_digest


def merge_partial_results(parts: Sequence[Mapping[str, Predictions]]) -> PartialResults:
    """What the parts found, in their order, as one; what is not in all of them is left out."""
    everywhere = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {key: packed(np.concatenate([unpacked(part[key]) for part in parts])) for key in sorted(everywhere)}


def as_bytes(found: Mapping[str, Predictions]) -> bytes:
    """What a part found, to be kept: the same answers are the same bytes."""
    buffer = io.BytesIO()
    keys = sorted(found)
    names = np.array(keys, dtype=np.str_) if keys else np.zeros(0, "<U1")
    np.savez_compressed(buffer, names, *(found[key] for key in keys), allow_pickle=False)
    return buffer.getvalue()


def from_bytes(data: bytes) -> PartialResults:
    """What ``as_bytes`` kept.

    Raises:
        InvalidInput: it is not that.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return {str(key): kept[f"arr_{place}"] for place, key in enumerate(kept["arr_0"], start=1)}
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise InvalidInput(f"not a part of an audit: {error}") from error
