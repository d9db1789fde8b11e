"""Models as records: files by digest, the parent, the recipe, the candidate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, TaskName, Text, Value


class FileEntry(Value):
    """One file of a model folder: its path inside the folder (``/`` between parts), size in bytes, digest."""

    name: Annotated[str, Field(pattern=r"^[^/\\\x00]+(/[^/\\\x00]+)*$", max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    digest: Digest


def answering_files(files: Iterable[FileEntry]) -> frozenset[Digest]:
    """The files that answer images, by digest: another card, licence or note makes no other model."""
    return frozenset(file.digest for file in files if not file.name.endswith((".json", ".md", "LICENSE")))


class Parent(Record):
    """The model that candidates are pruned from and compared with."""

    kind: ClassVar[str] = "parent"
    event: ClassVar[str] = "parent.registered"

    model: Name
    task: TaskName
    architecture: Name
    files: tuple[FileEntry, ...]
    source: Text
    licence: Text
    intended_use: Text = "not stated"
    not_for: Text = "not stated"

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name."""
        return (self.model,)


class Recipe(Record):
    """How a parent is pruned; the same recipe on the same parent gives the same candidate.

    ``targets`` holds the method's own numbers (``{"sparsity": 0.3}``), ``recovery`` what was done
    afterwards to win accuracy back, with the digest of the data that it saw.
    """

    kind: ClassVar[str] = "recipe"
    event: ClassVar[str] = "recipe.recorded"

    method: Name
    targets: dict[str, float]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    recovery: dict[str, Any] = {}
    data: Digest | None = None
    number_format: Literal["int8", "float16", "bfloat16"] | None = None


class Mark(Value):
    """What is known in public about the watermark of a candidate: a commitment, never the key.

    ``unmarked`` is the digest of the weights before marking; ``commitment`` binds key, payload and
    unmarked weights (see ``auditsvc.watermark``), so that a key can't be made up afterwards.
    """

    scheme: Name
    commitment: Digest
    unmarked: Digest
    parameters: dict[str, Any]
    fidelity: dict[str, float] = {}


class WatermarkKeyRecord(Record):
    """For whom a candidate was marked, and where what finds its mark again is kept, encrypted.

    Found by the commitment in the candidate's mark.  ``release`` and ``recipient`` are the words that the key of
    the mark is derived with, the numbers are those in its message.  ``original`` (the unmarked weights) and
    ``queries`` are blobs that only the master secret opens.
    """

    kind: ClassVar[str] = "marked-copy"
    event: ClassVar[str] = "watermark-key.recorded"

    commitment: Digest
    unmarked: Digest
    release: Name
    recipient: Annotated[str, Field(max_length=128)] = ""
    release_number: Annotated[int, Field(ge=0, lt=2**32)]
    recipient_number: Annotated[int, Field(ge=0, lt=2**16)] = 0
    original: Digest
    queries: Digest | None = None
    """None for tasks whose answers are more than one class."""

    def subjects(self) -> tuple[str, ...]:
        """Found by the commitment of the mark."""
        return (self.commitment,)


class Candidate(Record):
    """One exact set of model files, with its parent and recipe, asking for release.

    No time and no person in it: pruning the same parent by the same recipe names the same candidate,
    and its evidence can be used again.
    """

    kind: ClassVar[str] = "candidate"
    event: ClassVar[str] = "candidate.registered"

    model: Name
    task: TaskName
    architecture: Name
    files: tuple[FileEntry, ...]
    parent: Digest
    recipe: Recipe | None = None
    mark: Mark | None = None
    card: dict[str, float] = {}
    """Facts that were counted, not estimated: parameters, non-zeros, bytes."""
    unproven: tuple[str, ...] | None = None
    """Files of which no proof exists that an answer depends on one image alone; they are audited, never released."""

    @property
    def only_predictions(self) -> bool:
        """Whether its files are predictions that were made elsewhere, and no model."""
        return self.architecture == "predictions"

    def subjects(self) -> tuple[str, ...]:
        """Found by its model, its parent, its recipe, and each of its files."""
        recipe = (recipe_key(self.parent, self.recipe),) if self.recipe else ()
        return (self.model, self.parent, *recipe, *(file.digest for file in self.files))


class Timing(Record):
    """The latency of one image for candidate and parent in one run, in ms: medians and interquartile ranges.

    ``ratio``: how many times as fast the candidate is, turn by turn, with the ends of its 95 % interval; records from
    before 0.2 have none.

    It is not part of the candidate, because time is measured and not counted: the same bytes take another time on
    another machine.
    """

    kind: ClassVar[str] = "timing"
    event: ClassVar[str] = "latency.measured"

    candidate: Digest
    parent: Digest
    median_ms: Annotated[float, Field(gt=0)]
    iqr_ms: Annotated[float, Field(ge=0)]
    parent_median_ms: Annotated[float, Field(gt=0)]
    parent_iqr_ms: Annotated[float, Field(ge=0)]
    runs: Annotated[int, Field(ge=4)]
    ratio: Annotated[float, Field(gt=0)] | None = None
    ratio_low: Annotated[float, Field(gt=0)] | None = None
    ratio_high: Annotated[float, Field(gt=0)] | None = None
    how: Text
    at: Moment

    @property
    def speed(self) -> str:
        """What may be said of the candidate's speed: nothing whose interval holds 1."""
        if self.ratio is None or self.ratio_low is None or self.ratio_high is None:
            return "the ratio was recorded without an interval, so no gain or loss of speed is claimed"
        interval = f"95 % interval {self.ratio_low:.3g} to {self.ratio_high:.3g}"
        if self.ratio_low <= 1 <= self.ratio_high:
            return f"no difference in speed was shown (ratio {self.ratio:.3g}, {interval})"
        return f"{self.ratio:.3g} times as fast ({interval})"

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate."""
        return (self.candidate,)


def recipe_key(parent: Digest, recipe: Recipe) -> str:
    """The key under which the candidate made by this recipe from this parent is found."""
    return f"{parent}|{recipe.digest}"


class Submission(Record):
    """Who requested the release of a candidate, and under which version of the registry."""

    kind: ClassVar[str] = "submission"
    event: ClassVar[str] = "candidate.submitted"

    candidate: Digest
    model: Name
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]*$")]
    submitter: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate and by ``model/version``."""
        return (self.candidate, f"{self.model}/{self.version}")


class DatasetRef(Value):
    """A data set by content: ``digest`` covers every image and every row of metadata.

    ``notes`` say what reading it changed, assumed or left out, each with a count.  ``suspected`` is what suggests
    clusters that it does not declare, ``independent`` why its owner says that there are none, ``lawful_basis`` why its
    owner says that images of people may be used.
    """

    name: Name
    digest: Digest
    task: TaskName
    images: Annotated[int, Field(ge=1)]
    slices: tuple[str, ...]
    source: Text
    licence: Text
    notes: tuple[str, ...] | None = None
    suspected: tuple[str, ...] | None = None
    independent: Text | None = None
    lawful_basis: Text | None = None
