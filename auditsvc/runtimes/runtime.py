"""The port: a runtime opens a file and gives a program, which answers batches of images.

It imports no torch, so that a clean process that runs one file starts in a fraction of a second.
"""

from __future__ import annotations

import importlib
import platform
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from auditsvc.errors import InvalidInput, Unavailable


@dataclass(frozen=True)
class Port:
    """One input or output of a program; ``type`` as numpy names it, a size that is not fixed is None.

    ``last`` is the operator that makes an output, where the file says it.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]
    last: str = ""

    def __str__(self) -> str:
        sizes = " x ".join("N" if size is None else str(size) for size in self.shape) or "no sizes"
        return f"{self.name!r}: {self.type} {sizes}"


class Program(Protocol):
    """An opened file."""

    inputs: list[Port]
    outputs: list[Port]
    integers: bool
    """Whether it computes in integers (INT8)."""

    def run(self, images: NDArray[Any], output: str) -> NDArray[Any]:
        """The answers of one output to one batch, in the program's own layout and number type.

        Raises:
            InvalidInput: images that it can't run, in the runtime's words.
        """
        ...


class Runtime(ABC):
    """One way to run a file.  ``open`` pins threads and precision: a default may change with the machine."""

    id: ClassVar[str]
    distribution: ClassVar[str]
    """The installed distribution whose version goes into the evidence."""
    library: ClassVar[str]
    """The module that is imported."""
    files: ClassVar[tuple[str, ...]]
    """The files of a candidate that it can run, the preferred one first."""
    precisions: ClassVar[tuple[str, ...]]
    """What it can be asked to compute in; ``int8`` runs a file with integer layers."""

    @abstractmethod
    def open(self, path: Path, precision: str, threads: int) -> Program:
        """The program of a file.

        Raises:
            InvalidInput: a file that it can't run, in the runtime's words.
            Unavailable: it is not installed, or this machine lacks the precision.
        """

    def convert(self, onnx: Path, folder: Path) -> tuple[Path, ...]:
        """The runtime's own files, made from an ONNX file that auditsvc exported; none where it runs ONNX or
        auditsvc can't write its format."""
        del onnx, folder
        return ()

    @classmethod
    def imported(cls) -> Any:
        """The library.

        Raises:
            Unavailable: it is not installed; with the command that installs it.
        """
        try:
            return importlib.import_module(cls.library)
        except ImportError as error:
            raise Unavailable(f'{cls.id} is not installed: pip install "auditsvc[{cls.id}]"') from error

    @classmethod
    def version(cls) -> str | None:
        """The installed version; None if it is not installed."""
        try:
            return version(cls.distribution)
        except PackageNotFoundError:
            return None


JOIN, MOST_FINAL = "+", 100
"""Between the names of outputs that are joined; the detections of an image that are kept after suppression, as COCO
counts them."""


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A detector's outputs as one: boxes ``(N, A, 4)`` and confidences ``(N, A, C)`` as ``(N, A, 4 + C)``; boxes,
    confidences ``(N, A)`` and class numbers ``(N, A)``, or those of one image without ``N``, as ``(N, 100, 6)``, the
    most confident first, filled with zeros.

    Raises:
        InvalidInput: other shapes.
    """
    boxes, others = parts[0], list(parts[1:])
    if boxes.ndim == 4 and boxes.shape[2] == 1:
        boxes = boxes[:, :, 0]
    if boxes.ndim == 2:
        boxes, others = boxes[None], [one[None] for one in others]
    rows = [one[..., None] if one.ndim == 2 else one for one in others]
    shapes = ", ".join(str(tuple(one.shape)) for one in parts)
    if boxes.ndim != 3 or boxes.shape[2] != 4 or any(one.shape[:2] != boxes.shape[:2] for one in rows):
        raise InvalidInput(f"{shapes} are no boxes, confidences and class numbers of the same detections")
    whole = np.concatenate([one.astype(np.float32) for one in (boxes, *rows)], axis=2)
    if len(rows) == 1:
        return whole
    if whole.shape[2] != 6:
        raise InvalidInput(f"{shapes}: one confidence and one class number for each box are needed")
    order = np.argsort(-whole[..., 4], axis=1, kind="stable")[:, :MOST_FINAL]
    kept = np.take_along_axis(whole, order[..., None], axis=1)
    return np.pad(kept, ((0, 0), (0, MOST_FINAL - kept.shape[1]), (0, 0)))


def as_input(images: NDArray[Any], sizes: Sequence[int | str | None], kind: str) -> NDArray[Any]:
    """Images in the layout and number type of an input; bytes are 0..255."""
    if channels_last(sizes, images.shape[1:]):
        images = images.transpose(0, 2, 3, 1)
    images = np.rint(images * 255).clip(0, 255) if kind == "uint8" else images
    return np.ascontiguousarray(images.astype(kind))


def channels_last(sizes: Sequence[int | str | None], image: tuple[int, ...]) -> bool:
    """Whether a graph that takes ``sizes`` wants an image ``(C, H, W)`` as ``(H, W, C)``."""

    def fits(order: tuple[int, ...]) -> bool:
        return all(not isinstance(size, int) or size == wanted for size, wanted in zip(sizes[1:], order, strict=True))

    channels, height, width = image
    return not fits((channels, height, width)) and fits((height, width, channels))


_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "asimddp", "i8mm",
          "bf16", "fphp")  # fmt: skip
"""Those on which a runtime's choice of kernels, and so its rounding, depends."""


@cache
def cpu_flags() -> str:
    """The machine and the flags of its CPU that choose kernels: ``x86_64 avx2 avx512_vnni``."""
    try:
        words = set(Path("/proc/cpuinfo").read_text("utf-8").split())
    except OSError:
        words = set()
    return " ".join((platform.machine(), *(flag for flag in _FLAGS if flag in words)))
