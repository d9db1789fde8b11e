"""Which files a model folder may hold: by name, by size, and by what they are inside.

Everything is looked at by its content; a pickle named ``model.safetensors`` is still a pickle.
"""

from __future__ import annotations

from pathlib import Path

from auditsvc.models import CARD, WEIGHTS
from auditsvc.models.foreign import HEAD_BYTES, foreign

ONNX = "model.onnx"
"""The same model for other runtimes; written by us beside the weights, never read back as the model."""

LIMITS: dict[str, int] = {
    WEIGHTS: 4 * 2**30,
    CARD: 16 * 2**20,
    ONNX: 4 * 2**30,
    "LICENSE": 2**20,
    "NOTICE": 2**20,
    "NOTE.md": 2**20,
    "README.md": 2**20,
}
"""The files that a model folder may hold, and how many bytes each may have."""

NEEDED = (WEIGHTS, CARD)


def inspect_folder(folder: Path) -> tuple[str, ...]:
    """Every reason against the files of this folder; none means that they may be loaded."""
    if not folder.is_dir():
        return (f"{folder} is not a folder",)
    paths = sorted(folder.iterdir())
    reasons = [f"{name} is missing" for name in NEEDED if name not in {path.name for path in paths}]
    return (*reasons, *(reason for path in paths for reason in _faults(path)))


def _faults(path: Path) -> list[str]:
    if path.is_symlink() or not path.is_file():
        return [f"{path.name} is not a plain file; links and folders are not admitted"]
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if reason := foreign(head, path.name, path):
        return [reason]
    limit = LIMITS.get(path.name)
    if limit is None:
        return [f"{path.name} is not a file of a model folder; admitted are {', '.join(LIMITS)}"]
    size = path.stat().st_size
    return [f"{path.name} has {size} bytes; at most {limit} are admitted"] if size > limit else []
