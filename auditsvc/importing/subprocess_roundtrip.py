"""Child process of a round trip: load each folder, run the images, write the outputs.  Run by ``round_trip`` only.

One process serves many folders, because starting torch costs more than loading a small model.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from auditsvc.errors import InvalidInput
from auditsvc.models import load_model


def answer(folder: Path, images: torch.Tensor, sizes: list[int]) -> dict[str, torch.Tensor]:
    """The outputs of the model in ``folder`` for the first images, once for each batch size."""
    model = load_model(folder)
    with torch.inference_mode():
        return {str(size): model(images[:size]).contiguous().clone() for size in sizes}


def main(job_file: Path) -> None:
    """Work through the job; one JSON line for each folder."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    job: dict[str, Any] = json.loads(job_file.read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    for number, trip in enumerate(job["trips"]):
        images = load_file(trip["images"])["images"].clone()
        try:
            save_file(answer(Path(trip["folder"]), images, trip["sizes"]), job_file.parent / f"{number}.safetensors")
            said: dict[str, Any] = {"trip": number, "reasons": []}
        except InvalidInput as error:
            said = {"trip": number, "reasons": [str(error).splitlines()[0], *error.reasons]}
        except (RuntimeError, TypeError, ValueError) as error:
            said = {"trip": number, "reasons": [f"the loaded model does not answer: {error}".splitlines()[0]]}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
