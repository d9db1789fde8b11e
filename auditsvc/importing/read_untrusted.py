"""Child process that reads a file of ``torch.save`` into safetensors.

Run by ``auditsvc.importing.recognition`` only.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar as _scalar
from safetensors.torch import save_file

from auditsvc.errors import Refused
from auditsvc.importing.process_limits import confine
from auditsvc.models.state_dicts import unwrapped

_INERT: tuple[Any, ...] = (
    argparse.Namespace, PurePosixPath, (PurePosixPath, "pathlib.PosixPath"), np.dtype, type(np.dtype("f4")),
    *(type(np.dtype(kind)) for kind in ("f2", "f8", "i4", "i8", "u1", "?")),
    *((_scalar, f"numpy.{where}.multiarray.scalar") for where in ("core", "_core")),
)  # fmt: skip
"""What training scripts keep beside weights, without code of its own: options, paths, single numbers of numpy."""


def state_dict(path: str, folder: Path) -> dict[str, Any]:
    """Write ``weights.safetensors``; what was done to get them.

    Raises:
        Refused: the file holds more than tensors, or is damaged.
    """
    try:
        with torch.serialization.safe_globals([*_INERT]):
            tensors, notes = unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        what = re.search(r"GLOBAL (\S+)", str(error))
        raise Refused(
            f"it holds Python objects{f' ({what[1]})' if what else ''}, which are not opened; save the weights alone "
            "where you trust the file: torch.save(model.state_dict(), 'model.pt')"
        ) from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError, TypeError, AttributeError) as error:
        raise Refused(f"it can't be read as a file of torch.save: {str(error).strip()[:200]}") from error
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "weights.safetensors")
    return {"notes": notes}


def main(job_file: Path) -> None:
    """Do the job; one JSON line."""
    confine()
    job: dict[str, Any] = json.loads(job_file.read_text("utf-8"))
    try:
        said: dict[str, Any] = {"reasons": [], **state_dict(job["path"], job_file.parent)}
    except Refused as error:
        said = {"reasons": [str(error).splitlines()[0], *error.reasons]}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
