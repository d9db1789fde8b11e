"""What is watched of a release in use: observations become values, values become streams, streams raise alarms.

Each channel is one number for an image (``values_of``).  Its stream compares it with the same channel of the audited
images and of all observations before (``martingale``); so do streams for each value of the watched slice columns.
Alpha is divided: over channels evenly, half of it for all images and half for slices, there by a series, as their
number is not known before.  A value of a slice that the audit does not have is compared with its own past alone.

The distance of features is the mean distance to the nearest audited images of one half; the bag begins with those of
the other half, so that both are new to it.

The estimate of accuracy is the share of images whose confidence exceeds the threshold that is exceeded by as many
audited images as are right (ATC).  It is made on disturbed audited images too, where the truth is known; its largest
error there widens its interval.

References: S. Garg et al. (2022), "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance",
arXiv:2201.04234 (ATC); see ``martingale`` for the tests.
"""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from auditsvc.evaluation.intervals import wilson
from auditsvc.evaluation.martingale import Floor, MeanSequence, Numbers, Stream, draw, nth_share, shares
from auditsvc.records import Estimate, Measured, Observation, StreamReading
from auditsvc.records.monitoring import DEVICE, Channel

NEIGHBOURS, MOST_NEIGHBOURS = 5, 1000
LABELLED = 0.1
"""The share of alpha of the rules about labelled images."""
RUN = 10
"""Black or frozen images of one device in a row at which its camera has failed: a fact, not a test."""
MOST_VALUES = 200
"""Values of a column that are watched apart, in the order in which they come; others count with all images."""
BLACK, PLAIN = 0.02, 0.01
"""Brightness below which, and contrast below which, an image is black."""


@dataclass(frozen=True)
class Reference:
    """The audited images as a release sees them, one of each cluster.

    ``channels``: ``(N,)`` by name; of ``distance`` only the second half, others are NaN.  ``columns``: ``(N,)`` words.
     ``near``: ``(M, D)`` features of the first half, scaled; ``scale``: ``(2, D)`` mean and spread.
    ``pixels``: the names of all audited images.  ``estimator``: threshold, largest error, conditions.
    """

    channels: dict[str, Numbers]
    columns: dict[str, NDArray[np.str_]]
    near: Numbers
    scale: Numbers
    pixels: frozenset[str]
    thumbnails: NDArray[np.uint8]
    estimator: tuple[float, float, int] | None = None

    def pack(self) -> bytes:
        """The file of a ``WatchReference``: NumPy arrays, which hold no code."""
        held: dict[str, Any] = {f"channel.{name}": found for name, found in self.channels.items()}
        held |= {f"column.{name}": found for name, found in self.columns.items()}
        held |= {"near": self.near, "scale": self.scale, "thumbnails": self.thumbnails,
                 "pixels": np.array(sorted(self.pixels)), "estimator": np.array(self.estimator or ())}  # fmt: skip
        return packed_arrays(held)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """What ``pack`` made."""
        held = unpacked_arrays(data)
        named: dict[str, dict[str, Any]] = {
            kind: {name.partition(".")[2]: found for name, found in held.items() if name.startswith(f"{kind}.")}
            for kind in ("channel", "column")
        }
        made = held["estimator"].tolist()
        return cls(
            named["channel"],
            named["column"],
            held["near"],
            held["scale"],
            frozenset(held["pixels"].tolist()),
            held["thumbnails"],
            (made[0], made[1], int(made[2])) if made else None,
        )

    def of(self, channel: str, column: str = "", value: str = "") -> Numbers:
        """The audited values of a channel, in a slice; empty where the audit has none."""
        found = self.channels.get(channel, np.zeros(0))
        if column:
            words = self.columns.get(column)
            found = found[:0] if words is None else found[words == value]
        return found[~np.isnan(found)]

    def distance(self, features: Numbers) -> float | None:
        """The mean distance of features ``(D,)`` to the nearest audited ones; None for features of another length."""
        if not len(self.near) or features.shape != self.scale.shape[1:]:
            return None
        off = np.linalg.norm(self.near - (features - self.scale[0]) / self.scale[1], axis=1)
        return float(np.sort(np.partition(off, min(NEIGHBOURS, len(off)) - 1)[:NEIGHBOURS]).mean())


def packed_arrays(held: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an npz file."""
    out = io.BytesIO()
    np.savez_compressed(out, **held)
    return out.getvalue()


def unpacked_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """What ``packed_arrays`` wrote; nothing in it is executed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def values_of(seen: Observation, reference: Reference) -> dict[str, float]:
    """The value of each channel that this observation has."""
    found: dict[str, float] = dict(seen.properties)
    if seen.scores:
        found |= {"confidence": max(seen.scores), "classes": float(np.argmax(seen.scores))}
    if seen.scores and seen.parent:
        found["disagreement"] = float(np.argmax(seen.scores) != np.argmax(seen.parent))
    if seen.features and (off := reference.distance(np.asarray(seen.features, np.float64))) is not None:
        found["distance"] = off
    return found


@dataclass
class Camera:
    """How many images of one device in a row were black, or the same as the one before."""

    black: int = 0
    frozen: int = 0
    last: str = ""

    def see(self, seen: Observation) -> str:
        """What is wrong with the device after this image; mostly nothing."""
        light, spread = (seen.properties.get(name, 1.0) for name in ("brightness", "contrast"))
        self.black = self.black + 1 if light < BLACK and spread < PLAIN else 0
        self.frozen = self.frozen + 1 if seen.image and seen.image == self.last else int(bool(seen.image))
        self.last = seen.image
        return "black" if self.black >= RUN else "frozen" if self.frozen >= RUN else ""


@dataclass
class Watcher:
    """All streams of one release under its settings; the same observations in the same order give the same state."""

    reference: Reference
    channels: tuple[Channel, ...]
    columns: tuple[str, ...]
    alpha: float
    seed: str
    block: float = 0.0
    """Seconds; see ``WatchSettings``."""
    period: float = 0.0
    models: frozenset[str] = frozenset()
    """The digests under which the release may answer; empty accepts any."""
    rules: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By rule about labelled images: ``accuracy`` and its least value, or ``loss`` and its largest."""
    floors: dict[str, Floor] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    """By stream, the logarithm to base 10 of the wealth that raises an alarm."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """By column, its values in the order in which they came."""
    cameras: dict[str, Camera] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    """What is wrong with a device for certain: by what, in words."""
    churn: MeanSequence = field(default_factory=MeanSequence)
    right: MeanSequence = field(default_factory=MeanSequence)
    lost: MeanSequence = field(default_factory=MeanSequence)
    times: list[float] = field(default_factory=list)
    """The first and the last time of an observation that counted."""
    confident: int = 0
    images: int = 0
    left_out: int = 0

    def see(self, position: int, seen: Observation, *, first: bool = True) -> None:
        """One observation; ``first``: of its cluster.  Its position in the order of arrival draws what is drawn."""
        where = f" of {seen.device}" if seen.device else ""
        if seen.model and self.models and seen.model not in self.models:
            self.left_out += 1
            self.facts[f"model@{DEVICE}={seen.device}"] = f"another model answers{where}: {seen.model}"
            return
        if fault := self.cameras.setdefault(seen.device, Camera()).see(seen):
            self.facts[f"camera@{DEVICE}={seen.device}"] = f"the camera{where} gave {RUN} images in a row: {fault}"
        if not first:
            self.left_out += 1
            return
        self.images += 1
        self.times = [pick((*self.times, seen.at.timestamp())) for pick in (min, max)]
        found = {name: one for name, one in values_of(seen, self.reference).items() if name in self.channels}
        if "confidence" in found and self.reference.estimator:
            self.confident += found["confidence"] > self.reference.estimator[0]
        if seen.scores and seen.parent:
            self.churn.add(float(np.argmax(seen.scores) != np.argmax(seen.parent)), self.alpha)
        slices = seen.slices | {DEVICE: seen.device}
        season = str(int(seen.at.timestamp() % self.period // self.block)) if self.period else ""
        places = [(one, word) for one in self.columns if (word := slices.get(one)) and self._has_place(one, word)]
        for channel, value in found.items():
            for column, word in (("", ""), *places):
                self._watch(position, channel, column, word, value, season)

    def _watch(self, position: int, channel: str, column: str, word: str, value: float, season: str) -> None:
        name = f"{channel}@{column}={word}" if column else channel
        if name not in self.streams:
            self.streams[name] = Stream(self.reference.of(channel, column, word).tolist())
            alpha = self.alpha * (1 - LABELLED if self.rules else 1)
            self.limits[name] = -math.log10(alpha * self._share(column, word) / len(self.channels))
        self.streams[name].watch(value, draw(self.seed, name, position), season)

    def _share(self, column: str, word: str) -> float:
        overall, sliced = shares(len(self.columns))
        if not column:
            return overall
        return sliced / len(self.columns) * nth_share(self.values[column].index(word) + 1)

    def _has_place(self, column: str, word: str) -> bool:
        """Whether this value of a column is watched apart; the senders name values, so there are only so many."""
        known = self.values.setdefault(column, [])
        if word not in known and len(known) < MOST_VALUES:
            known.append(word)
        return word in known

    def label(self, seen: Observation, answer: int) -> None:
        """The class of an image whose label came; it is counted with the models' answers of then."""
        right = float(np.argmax(seen.scores) == answer)
        self.right.add(right, self.alpha)
        kept = None
        if seen.parent:
            kept = (1 - float(np.argmax(seen.parent) == answer) + right) / 2
            self.lost.add(1 - kept, self.alpha)
        for name, (what, limit) in self.rules.items():
            value, least = (right, limit) if what == "accuracy" else (kept, (1 - limit) / 2)
            if value is not None:
                self.floors.setdefault(name, Floor(least)).add(value)

    @property
    def span(self) -> tuple[datetime.datetime, ...]:
        """``times`` as moments."""
        return tuple(datetime.datetime.fromtimestamp(one, datetime.UTC) for one in self.times)

    def readings(self) -> tuple[StreamReading, ...]:
        """Every stream, the strongest evidence first."""
        made = [
            StreamReading(
                stream=name,
                images=one.bets.steps,
                mean=one.total / one.bets.steps,
                audited=float(np.mean(one.audited)) if one.audited else None,
                log10_e=round(math.log10(one.highest), 3),
                limit=round(self.limits[name], 3),
            )
            for name, one in self.streams.items()
        ]
        return tuple(sorted(made, key=lambda one: one.limit - one.log10_e))

    def alarms(self) -> Iterator[tuple[str, str]]:
        """What is not as it was audited: the stream, and in words."""
        yield from self.facts.items()
        for name, floor in self.floors.items():
            if floor.highest * self.alpha * LABELLED >= len(self.rules):
                yield f"rule {name}", f"the labels of {floor.steps} observations show that the rule {name} is broken"
        for one in self.readings():
            if one.alarmed:
                then = f"; audited: {one.audited:.4g}" if one.audited is not None else "; not audited, its own past"
                chance = f"evidence 10^{one.log10_e:.1f}, alarm at 10^{one.limit:.1f}"
                yield one.stream, f"{one.stream} changed: mean {one.mean:.4g} of {one.images} images{then} ({chance})"

    def estimate(self) -> Estimate | None:
        """The accuracy without labels; None without answers, or without labelled audit images."""
        images = self.streams["confidence"].bets.steps if "confidence" in self.streams else 0
        if not self.reference.estimator or not images:
            return None
        _, error, conditions = self.reference.estimator
        found = wilson(np.array([float(self.confident)]), np.array([float(images)]), self.alpha / 2)
        value, low, high = (float(end[0]) for end in (found.value, found.low, found.high))
        outcome = Measured(value=value, low=max(low - error, 0.0), high=min(high + error, 1.0), images=images)
        return Estimate(accuracy=outcome, largest_error=error, conditions=conditions)

    def pack(self) -> bytes:
        """The state, to be kept."""
        arrays = {f"{name}|{part}": held for name, one in self.streams.items() for part, held in one.pack().items()}
        for name in ("churn", "right", "lost"):
            arrays |= {f"{name}||{part}": np.asarray(held) for part, held in vars(getattr(self, name)).items()}
        plain = {name: getattr(self, name) for name in _PLAIN}
        plain["floors"] = {name: vars(one) for name, one in self.floors.items()}
        words = json.dumps(plain | {"cameras": {name: vars(one) for name, one in self.cameras.items()}})
        return packed_arrays(arrays | {"plain": np.array(words)})

    def restore(self, data: bytes) -> None:
        """Go on where ``pack`` was."""
        held = unpacked_arrays(data)
        plain = json.loads(str(held.pop("plain")))
        self.cameras = {name: Camera(**one) for name, one in plain.pop("cameras").items()}
        self.floors = {name: Floor(**one) for name, one in plain.pop("floors").items()}
        for name, value in plain.items():
            setattr(self, name, value)
        for name in ("churn", "right", "lost"):
            parts: dict[str, Any] = {part: held.pop(f"{name}||{part}") for part in vars(MeanSequence())}
            parts |= {part: parts[part].item() for part in ("total", "squares", "images")}
            setattr(self, name, MeanSequence(**parts))
        for name in self.limits:
            prefix = f"{name}|"
            self.streams[name] = Stream.unpack(
                {key.removeprefix(prefix): array for key, array in held.items() if key.startswith(prefix)}
            )


_PLAIN = ("limits", "values", "facts", "times", "confident", "images", "left_out")


def measured_sequence(found: MeanSequence, *, change: bool = False) -> Measured | None:
    """The mean with its confidence sequence; of a ``change`` in -1..1, which was counted as 0..1."""
    if not found.images:
        return None
    value, low, high = ((2 * end - 1 if change else end) for end in found.interval)
    return Measured(value=value, low=low, high=high, images=found.images)
