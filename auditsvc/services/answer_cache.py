"""Answers of models by content, kept on disk for the next candidate, command, job or shard that needs the same.

A key names the model, the images, the condition, the seed and the attack by their digests; the file's name adds the
code, the versions and the CPU that gave the answers, so nothing that could change them is answered from here.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auditsvc.evaluation.fingerprint import code_version
from auditsvc.ports import Context
from auditsvc.runtimes import cpu_flags
from auditsvc.runtimes.onnxruntime import OnnxRuntime

MOST_BYTES = 2 * 2**30
"""What a store keeps; the answers that were not used for the longest time go first."""


class AnswerCache(MutableMapping[str, NDArray[Any]]):
    """Arrays by key: in memory, and in the files of ``folder``.  A file that can't be written or read is no error."""

    def __init__(self, folder: Path, device: str, most: int = MOST_BYTES) -> None:
        self._folder, self._most = folder, most
        self._memory: dict[str, NDArray[Any]] = {}
        self._held: int | None = None  # bytes in the folder, as far as this object knows; the folder is listed once
        self._given_by = "|".join((code_version(), torch.__version__, str(OnnxRuntime.version()), cpu_flags(), device))

    def __getitem__(self, key: str) -> NDArray[Any]:
        """The array; the one that was stored by this object is the same object."""
        if key not in self._memory:
            path = self._path(key)
            try:
                self._memory[key] = np.load(path, allow_pickle=False)
                os.utime(path)
            except (OSError, ValueError, EOFError):
                raise KeyError(key) from None
        return self._memory[key]

    def __setitem__(self, key: str, answers: NDArray[Any]) -> None:
        """Keep an array; the oldest files go where there are too many."""
        self._memory[key] = answers
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
            with os.fdopen(descriptor, "wb") as file:
                np.save(file, answers, allow_pickle=False)
            self._held = None if self._held is None else self._held + Path(name).stat().st_size
            Path(name).replace(self._path(key))
            if self._held is None or self._held > self._most:
                self._forget()

    def __delitem__(self, key: str) -> None:
        """Forget an array."""
        del self._memory[key]
        self._path(key).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        """The keys that this object has seen."""
        return iter(self._memory)

    def __len__(self) -> int:
        """How many keys this object has seen."""
        return len(self._memory)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(f'{self._given_by}|{key}'.encode()).hexdigest()}.npy"

    def _forget(self) -> None:
        """Remove what was not used for the longest time, and what a killed process left half written."""
        seen = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.iterdir())
        self._held = sum(size for _, size, _ in seen)
        for _, size, path in seen:
            if self._held <= self._most:
                return
            path.unlink(missing_ok=True)
            self._held -= size


def answer_cache(ctx: Context) -> AnswerCache:
    """The cache of a store."""
    return AnswerCache(ctx.folder / "answers", ctx.device)
