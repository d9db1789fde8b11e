"""Unsupported formats, recognised by their content, each with the reason and the command that converts it.

The conversion is left to the owner, on a machine where the file is trusted: to open a pickle is to run its code.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

HEAD_BYTES = 512
_TO_SAFETENSORS = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{name}', weights_only=True), 'model.safetensors')\""
)
_FROM_SCRIPT = (
    'python -c "import torch, safetensors.torch as s; '
    "tensors = torch.jit.load('{name}').state_dict(); "
    "s.save_file({{key: tensors[key].contiguous() for key in tensors}}, 'model.safetensors')\""
)
_FROM_EXPORT = (
    'python -c "import torch, safetensors.torch as s; '
    "tensors = torch.export.load('{name}').state_dict; "
    "s.save_file({{key: tensors[key].contiguous() for key in tensors}}, 'model.safetensors')\""
)
_HDF5, _GZIP, _TFLITE = b"\x89HDF\r\n\x1a\n", b"\x1f\x8b", b"TFL3"


def foreign(head: bytes, name: str, source: Path | bytes | None = None) -> str | None:
    """Why a file that starts like this is refused, and what would work; None if it is none of the known ones.

    ``source`` is the whole file, by path or as bytes; it lets a zip archive be recognised by its list of names.
    """
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return None  # a safetensors file, whatever the length of its header looks like
    if head[:1] == b"\x80" and head[1:2] in b"\x01\x02\x03\x04\x05":
        return _refusal(name, "a Python pickle, which can run code when it is opened", _TO_SAFETENSORS)
    if head[:4] == b"PK\x03\x04":
        return _zip(name, source if source is not None else head)
    if head.startswith(_HDF5):
        return f"{name} is an HDF5 file (Keras); it was not opened. Export it as ONNX: python -m tf2onnx.convert --help"
    if head[257:262] == b"ustar" or head.startswith(_GZIP):
        return f"{name} is an archive; it was not opened. Unpack it where you trust it and send the files"
    if head[4:8] == _TFLITE:
        return f"{name} is a TensorFlow Lite model. Export it as ONNX: python -m tf2onnx.convert --tflite {name}"
    return None


def _zip(name: str, source: Path | bytes) -> str:
    """What kind of zip archive: only its list of names is read, nothing in it is opened."""
    try:
        with zipfile.ZipFile(source if isinstance(source, Path) else io.BytesIO(source)) as archive:
            members = {member.split("/", 1)[-1] for member in archive.namelist()[:10_000]}
    except (zipfile.BadZipFile, OSError, ValueError):
        members = set()
    if "constants.pkl" in members or any(member.startswith("code/") for member in members):
        return _refusal(name, "a TorchScript archive, which holds code and a pickle", _FROM_SCRIPT)
    if "archive_format" in members or any(member.startswith("models/") for member in members):
        return _refusal(name, "a torch.export archive (.pt2), whose layers can't be pruned", _FROM_EXPORT)
    return _refusal(name, "a zip archive as torch.save writes it (a pickle inside)", _TO_SAFETENSORS)


def _refusal(name: str, what: str, command: str) -> str:
    named = name if name.isprintable() and not set(name) & set("'\"\\$`") else "model.pt"
    return f"{name} is {what}; it was not opened. Convert it where you trust it: {command.format(name=named)}"
