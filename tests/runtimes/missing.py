"""A runtime whose library is not installed."""

from __future__ import annotations

from pathlib import Path

from auditsvc.runtimes.runtime import Program, Runtime


class Missing(Runtime):
    id, distribution, library = "missing", "no-such-distribution", "no_such_library"
    files = ("model.onnx",)
    precisions = ("float32",)

    def open(self, path: Path, precision: str, threads: int) -> Program:
        opened: Program = self.imported().open(path)
        return opened
