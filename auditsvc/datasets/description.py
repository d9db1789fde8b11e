"""``dataset.yaml``: the owner's description of a data set."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from auditsvc.errors import InvalidDataset, InvalidInput, Unavailable
from auditsvc.records import OVERALL, Name, TaskName, Text, faults_of
from auditsvc.tasks import TargetKind, task_type

Side = Annotated[int, Field(ge=1, le=8192)]
OTHER_SPELLINGS = {"license": "licence", "slice": "slices"}
"""Other names of fields."""

Edges = Annotated[tuple[float, ...], Field(min_length=1)]


class Description(BaseModel):
    """The fields of ``dataset.yaml``.

    ``slices`` are columns of words, or ``auto`` for what is inferred from the values (words make slices, numbers
    bins); ``bins`` are columns of numbers: into how many bins of about equal size, or the inner edges.  ``cluster`` is
    the column that says which video, patient or writer an image is of; images of one are not independent, and the
    intervals know it.  ``where`` picks rows.

    ``independent`` says why images that look like clusters (frames, bursts, copies) are none; ``lawful_basis`` why
    images of people may be used, and where consents are kept.

    ``unmatched: skip`` leaves out images without a row and rows without an image, and counts them; otherwise they are
    faults.  ``channels`` 1 or 3 reads all images as grey or RGB.

    ``target`` is the column with the class, with the text (ocr; the classes are then the characters), or with the file
    of a mask (segmentation; a number for each pixel in the order of the classes, 255 for pixels that don't count, and
    with ``foreground`` anything but 0 for the second class).  Detection and tracking name a COCO file as
    ``annotations`` instead; where there is no metadata its images are the rows.  Tracking needs a ``cluster``, the
    sequence, its frames in order.  ``size`` (height, width) scales all images.

    ``licence`` is an SPDX expression; ``licence_column`` is the column with that of each image, and ``licence`` holds
    where it is empty.

    ``other_domain`` is the place of a second data set, from here: the same
    classes seen by another camera, in another country; ``domain=own`` and ``domain=other`` are its slices.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name
    task: TaskName
    image: str = "image"
    target: str | None = None
    annotations: str | None = None
    foreground: bool = False
    size: tuple[Side, Side] | None = None
    channels: Literal[1, 3] | None = None
    unmatched: Literal["refuse", "skip"] = "refuse"
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    slices: tuple[str, ...] | Literal["auto"] = ()
    bins: dict[str, Annotated[int, Field(ge=2, le=20)] | Edges] = {}
    cluster: str | None = None
    independent: Text | None = None
    lawful_basis: Text | None = None
    where: dict[str, str] = {}
    other_domain: str | None = None
    source: Text
    licence: Text
    licence_column: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, fields: Any) -> Any:
        """``license`` and ``slice`` are the same fields; classes in Unicode form NFC, as the values of the table."""
        if not isinstance(fields, dict):
            return fields
        both = [f"{ours} and {other}" for other, ours in OTHER_SPELLINGS.items() if other in fields and ours in fields]
        if both:
            raise ValueError(f"{', '.join(both)} are one field; give it once")
        found = {OTHER_SPELLINGS.get(name, name): value for name, value in fields.items()}
        if isinstance(found.get("slices"), str) and found["slices"] != "auto":
            found["slices"] = [found["slices"]]
        if isinstance(found.get("classes"), list):
            found["classes"] = [
                unicodedata.normalize("NFC", one) if isinstance(one, str) else one for one in found["classes"]
            ]
        return found

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        columns = (*self.named_slices, *self.bins)
        for what, names in (("classes", self.classes), ("slice columns", columns)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} given twice: {', '.join(twice)}")
        if OVERALL in columns:
            raise ValueError(f"a slice column can't be named {OVERALL!r}: that is the slice of all images")
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        try:
            task = task_type(self.task)
        except InvalidInput as error:
            raise ValueError(str(error)) from error
        boxed = task.target_kind in ("boxes", "tracks")
        if boxed != (self.annotations is not None) or boxed == (self.target is not None):
            raise ValueError(f"{self.task} needs {'annotations, a COCO file, and no' if boxed else 'a'} target column")
        faults = task.class_faults(self.classes)
        if faults:
            raise ValueError("; ".join(faults))
        if self.foreground and (task.target_kind != "mask" or len(self.classes) != 2):
            raise ValueError("foreground is for masks with two classes")
        if task.target_kind == "tracks" and self.cluster is None:
            raise ValueError(f"{self.task} needs a cluster: the column with the sequence of each frame")
        return self

    @property
    def target_kind(self) -> TargetKind:
        """The form of the task's targets."""
        return task_type(self.task).target_kind

    @property
    def named_slices(self) -> tuple[str, ...]:
        """The columns of words that are named; none where they are inferred."""
        return () if self.slices == "auto" else self.slices

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the metadata that is read, but for the image's name."""
        cluster = (self.cluster,) if self.cluster else ()
        target = (self.target,) if self.target else ()
        licence = (self.licence_column,) if self.licence_column else ()
        return tuple(dict.fromkeys((*target, *licence, *self.named_slices, *self.bins, *cluster, *self.where)))


def description_file(path: Path) -> Path:
    """The description of a folder, or the path itself if it is a YAML file."""
    return path if path.suffix in {".yaml", ".yml"} else path / "dataset.yaml"


def read_description(path: Path) -> tuple[Path, Description]:
    """The folder and its description; ``path`` is the folder, or one of several descriptions in it.

    Raises:
        InvalidDataset: no description, or one with faults.
        Unavailable: the file can't be read.
    """
    source = description_file(path)
    try:
        fields = yaml.load(source.read_text("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
        return source.parent, Description.model_validate(fields)
    except FileNotFoundError as error:
        raise InvalidDataset(f"{path} is not a data set: there is no {source}") from error
    except OSError as error:
        raise Unavailable(f"{source} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{source} is not YAML: {error}") from error
    except ValidationError as error:
        known = (*Description.model_fields, *OTHER_SPELLINGS)
        raise InvalidDataset(f"{source} can't be used", faults_of(error, known)) from error


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping with distinct keys."""
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {', '.join(twice)}", node.start_mark)
        return super().construct_mapping(node, deep)
