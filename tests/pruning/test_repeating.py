"""A recipe's digest names one set of bytes: pruned in another process from the record alone, they are the same."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from auditsvc import pruning
from auditsvc.models import WEIGHTS, model_files
from auditsvc.pruning.methods import CRITERIA
from auditsvc.records import Recipe
from tests.pruning.toy import Toy, taught

TOY = Toy(64)
TRAINING = {"epochs": 2, "batch": 32, "shift": 1, "flip": True}
RECOVERIES = (
    {"batch-norm": {"images": 32}},
    {"fine-tune": TRAINING},
    {"batch-norm": {"images": 32}, "distillation": TRAINING},
)


def recipes() -> Iterator[Recipe]:
    """Every method, every recovery, every number format; each at least once."""
    data = TOY.ref.digest
    for number, criterion in enumerate(CRITERIA):
        goal = ("macs", "parameters")[number % 2]
        targets = {goal: 1.5, "round_to": 1 + number % 2, "everywhere": number // 2 % 2}
        yield Recipe(method=f"structured-{criterion}", targets=targets, data=data, seed=number)
    steps = {"macs": 2, "round_to": 1, "steps": 2}
    for recovery in RECOVERIES:
        yield Recipe(method="structured-l2", targets=steps, data=data, recovery=recovery, number_format="int8")
        zeros = {"sparsity": 0.8, "steps": 2}
        yield Recipe(method="magnitude-global", targets=zeros, data=data, recovery=recovery, number_format="float16")
    yield Recipe(method="magnitude-per-layer", targets={"sparsity": 0.5}, number_format="bfloat16")
    yield Recipe(method="n-m", targets={"keep": 2, "of": 4}, data=data, recovery=RECOVERIES[1], number_format="int8")
    yield Recipe(method="none", targets={}, data=data, number_format="int8")


PARENT = functools.cache(lambda: taught(TOY))


def fingerprint(recipe: Recipe) -> str:
    parent = PARENT()
    return hashlib.sha256(model_files(pruning.prune(parent, recipe, TOY), parent.card)[WEIGHTS]).hexdigest()


@pytest.mark.slow
def test_every_recipe_gives_the_same_bytes_in_another_process() -> None:
    wanted = {recipe.digest: recipe for recipe in recipes()}
    assert len(wanted) == len(tuple(recipes()))
    lines = b"\n".join(recipe.canonical() for recipe in wanted.values())
    command = [sys.executable, "-m", "tests.pruning.test_repeating"]
    done = subprocess.run(command, input=lines, capture_output=True, check=True)
    elsewhere = dict(line.split() for line in done.stdout.decode().splitlines())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert elsewhere == {digest: fingerprint(recipe) for digest, recipe in wanted.items()}
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    """The other process: records on standard input, digest and bytes on standard output."""
    torch.set_num_threads(1)
    for line in sys.stdin.buffer.read().splitlines():
        recipe = Recipe.parse(line)
        print(recipe.digest, fingerprint(recipe))


if __name__ == "__main__":
    main()
