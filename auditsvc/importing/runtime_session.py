"""A deployable file in its runtime, in a clean process that answers until it is closed or collected.

Answers, times and memory are those of the file as it is: it is not converted, and the process that opens it holds no
keys and has limits (``subprocess_runtime``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.importing.clean_process import CleanSession
from auditsvc.runtimes import Port, Runtime

START_SECONDS, ANSWER_SECONDS = 120.0, 600.0
_SCRIPT = Path(__file__).with_name("subprocess_runtime.py")
Outputs = Callable[[Tensor], Tensor]


class RuntimeSession:
    """``files`` are the path of one file, or the content of the files of a candidate by name.

    The runtime runs the first of its own file names that is there; it is started when it is first asked.  Without
    a ``precision`` it runs the file as it is, in float32 or with its integer layers.
    """

    def __init__(
        self, runtime: type[Runtime], files: Path | Mapping[str, bytes], precision: str | None = None, threads: int = 1
    ) -> None:
        self._name = str(files.absolute()) if isinstance(files, Path) else file_of(runtime, files)
        self._title, self._precision = f"{runtime.id}/{precision}", precision
        job = {"file": self._name, "precision": precision or "float32", "threads": threads} | _found_by(runtime)
        self._session, self._lock = CleanSession(_SCRIPT, job), threading.Lock()
        for name, data in files.items() if isinstance(files, Mapping) else ():
            (self._session.folder / name).write_bytes(data)

    @property
    def said(self) -> dict[str, Any]:
        """The child's first answer: ``graph``, what the file says of itself, or ``reasons`` against it."""
        return self._session.start(seconds=START_SECONDS)

    def graph(self) -> dict[str, Any]:
        """What the file says of itself.

        Raises:
            InvalidInput: it can't be run, or computes in another precision than was asked for.
            Unavailable: the runtime is not installed, or this machine lacks the precision.
        """
        _require_done(self.said)
        graph: dict[str, Any] = self.said["graph"]
        if self._precision in ("float32", "int8") and graph["integers"] != (self._precision == "int8"):
            held = "INT8 layers" if graph["integers"] else "no INT8 layers"
            raise InvalidInput(f"{Path(self._name).name} has {held}, so {self._title} was not run")
        return graph

    def whole(self) -> bytes:
        """The file as one; weights that were in a companion file are inside."""
        path = Path(self._name if self.said["reasons"] else self.said["graph"]["whole"])
        return (self._session.folder / path).read_bytes()

    def answers(self, images: Tensor, output: str, *, alone: bool = False) -> Tensor:
        """The answers to ``(N, C, H, W)`` float32 in 0..1, or bytes; ``alone``: one image at a time.

        Raises:
            InvalidInput: images that the file can't run, in the runtime's words.
        """
        made = self._session.folder / "answers.safetensors"
        with self._lock:
            self._ask(images, {"output": output, "alone": alone, "answers": str(made)})
            answers: Tensor = load_file(made)["answers"]
            return answers.clone().to(images.device)

    def times(self, images: Tensor, runs: int, *, alone: bool = True) -> tuple[list[float], float]:
        """The ms of each of so many answers, to single images or to all in a batch, and the memory in bytes that the
        process took since it opened the file."""
        graph = self.graph()
        with self._lock:
            said = self._ask(images, {"output": graph["outputs"][0]["name"], "times": runs, "alone": alone})
        return said["ms"], float(said["memory"]) - graph["memory_before"]

    def _ask(self, images: Tensor, request: dict[str, Any]) -> dict[str, Any]:
        given = self._session.folder / "images.safetensors"
        save_file({"images": images.detach().float().cpu().contiguous()}, given)
        request |= {"images": str(given), "bytes": images.dtype == torch.uint8}
        said = self._session.ask(request, seconds=ANSWER_SECONDS)
        _require_done(said)
        return said


def file_of(runtime: type[Runtime], names: Mapping[str, object]) -> str:
    """The file that a runtime runs, of these.

    Raises:
        InvalidInput: there is none; with what makes one.
    """
    found = next((name for name in runtime.files if name in names), None)
    if found is None:
        how = f"bring it, or make it with `auditsvc prune --runtime {runtime.id}`"
        raise InvalidInput(f"the candidate has no {' or '.join(runtime.files)} for {runtime.id}: {how}")
    return found


def ports_of(graph: Mapping[str, Any], name: str) -> tuple[Port, ...]:
    """The ``inputs`` or ``outputs`` of a description."""
    return tuple(Port(**(one | {"shape": tuple(one["shape"])})) for one in graph[name])


def converted(runtime: type[Runtime], onnx: bytes) -> dict[str, bytes]:
    """The runtime's own files by name, made of an ONNX file that auditsvc exported; none where it runs that as it is.

    Raises:
        InvalidInput: the runtime's converter refuses the graph.
        Unavailable: the runtime is not installed.
    """
    job = {"convert": "exported.onnx"} | _found_by(runtime)
    session = CleanSession(_SCRIPT, job)
    (session.folder / "exported.onnx").write_bytes(onnx)
    said = session.start(seconds=START_SECONDS)
    _require_done(said)
    return {path.name: (session.folder / path).read_bytes() for path in map(Path, said["files"])}


def _require_done(said: Mapping[str, Any]) -> None:
    if said["reasons"]:
        raise (Unavailable if said.get("error") == "Unavailable" else InvalidInput)("; ".join(said["reasons"]))


def _found_by(runtime: type[Runtime]) -> dict[str, str]:
    """How a child finds the class: its name, and the folder that an outside package is imported from."""
    module = runtime.__module__
    path = Path(str(sys.modules[module].__file__))
    folder = path.parents[module.count(".") + (path.stem == "__init__")]
    return {"runtime": f"{module}:{runtime.__qualname__}", "site": str(folder)}
