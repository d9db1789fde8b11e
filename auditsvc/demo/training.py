"""Train the dense parent of the digits case: seconds on a CPU, the same bytes on the same machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch.nn import functional

from auditsvc.adapters.folder_datasets import FolderDatasets
from auditsvc.measuring import Batch
from auditsvc.models import ArchitectureCard, InputSpec, build, model_files
from auditsvc.models.threads import one_thread

SEED, EPOCHS, BATCH, RATE = 20261122, 3, 64, 0.05


def trained_digits(folder: Path, description: Path) -> Path:
    """The folder of the trained parent; one that is there is used again, and none is ever half there."""
    target = folder / "digits-parent"
    if target.is_dir():
        return target
    dataset = FolderDatasets().open(description)
    batch = next(dataset.batches(dataset.ref.images))
    card = ArchitectureCard(
        architecture="small_cnn",
        task="classification",
        classes=dataset.classes,
        input=InputSpec(channels=1, height=28, width=28),
    )
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(SEED)
        module = _trained(build(card.architecture, card.arguments), batch)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="training-", dir=folder))
    for name, data in model_files(module.state_dict(), card).items():
        (partial / name).write_bytes(data)
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def _trained(module: torch.nn.Module, batch: Batch) -> torch.nn.Module:
    """Three epochs of stochastic gradient descent; on one thread, because sums depend on how many share them."""
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    steps = EPOCHS * -(-len(batch.targets) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for part in torch.split(torch.randperm(len(batch.targets)), BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(module(batch.images[part]), batch.targets[part]))
            optimiser.step()
            schedule.step()
    return module.eval()
