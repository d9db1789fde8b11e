"""A whole line in memory: a small parent with known weaknesses, real ports' fakes, a data set of 60 images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.models import ArchitectureCard, InputSpec, build, model_files
from auditsvc.ports import Context
from auditsvc.records import CheckSpec, Policy, Recipe, ReleaseTerms, Rule
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.fakes.terms import bind_terms

CARD = ArchitectureCard(
    architecture="small_cnn",
    arguments={"classes": 2, "width": 4},
    task="classification",
    classes=("dark", "bright"),
    input=InputSpec(channels=1, height=28, width=28),
)
FACTS = {"model": "brightness", "source": "made in a test", "licence": "Apache-2.0"}
GOOD = Recipe(method="magnitude-global", targets={"sparsity": 0.1})


def ports_in(folder: Path) -> Context:
    clock = FixedClock()
    ledger = MemoryLedger(clock)
    return Context(
        ledger=ledger,
        log=ledger,
        blobs=MemoryBlobs(),
        registry=MemoryRegistry(),
        datasets=DatasetReaders(),
        keys=MemoryKeys(),
        clock=clock,
        progress=QuietProgress(),
        folder=folder,
    )


def data_in(folder: Path, images: int = 60, seed: int = 0) -> Path:
    """Grey images whose class is their brightness; every third was taken by camera b."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    bright = np.arange(images) % 2
    pixels = chance.integers(0, 80, (images, 28, 28)) + 150 * bright[:, None, None]
    np.savez_compressed(folder / "images.npz", images=pixels.astype(np.uint8))
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("label", "camera"))
        writer.writerows(
            (("dark", "bright")[label], "b" if number % 3 == 0 else "a") for number, label in enumerate(bright)
        )
    (folder / "dataset.yaml").write_text(
        f"name: bright-{seed}\ntask: classification\ntarget: label\nclasses: [dark, bright]\nslices: [camera]\n"
        "source: made in a test\nlicence: Apache-2.0\n"
    )
    return folder


def parent_in(folder: Path) -> Path:
    """A small network that was trained for a few steps to tell dark from bright."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(CARD.architecture, CARD.arguments).train()
        optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(20):
            labels = torch.randint(0, 2, (32,))
            images = torch.rand(32, 1, 28, 28) * 0.3 + 0.6 * labels[:, None, None, None]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(images), labels).backward()
            optimiser.step()
    for name, data in model_files(module.eval().state_dict(), CARD).items():
        (folder / name).write_bytes(data)
    (folder / "LICENSE").write_text("Apache-2.0\n")
    return folder


def bind(ctx: Context, rules: Policy, *datasets: Dataset, **draft: object) -> ReleaseTerms:
    """The terms of the model of the line."""
    return bind_terms(ctx, FACTS["model"], rules, *(one.ref.digest for one in datasets), **draft)


def policy(**changes: object) -> Policy:
    fields: dict[str, object] = {
        "policy": "test",
        "version": 1,
        "why": "a test",
        "seed": 7,
        "checks": {"accuracy": CheckSpec(version=1)},
        "rules": (
            Rule(rule="floor", reading="accuracy/score.clean", at_least=0.8, why="a floor"),
            Rule(rule="loss", reading="accuracy/drop.clean", slices="each", at_most=0.3, why="a margin"),
        ),
    }
    return Policy(**(fields | changes))
