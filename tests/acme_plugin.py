"""The whole of an outside package: a check, a task, a reader, a runtime.  ``tests.test_plugins`` installs it."""

import json

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from auditsvc.datasets import Batch, Slices, column_from
from auditsvc.datasets.readers import DatasetReader, Recognition
from auditsvc.evaluation import Check
from auditsvc.records import Condition, DatasetRef, digest_of
from auditsvc.runtimes.torch import Torch
from auditsvc.tasks import ImageScores, Task


class Upside(Check):
    """Turn each image upside down.  Emits ``score.upside``, ``parent.upside`` and ``drop.upside``."""

    id = "acme-upside"
    version = 3

    def conditions(self):
        """One: turned by half."""
        return (Condition(name="upside", words="upside down"),)

    def measure(self, case):
        """One pass."""
        yield from case.compare("upside", turn)


def turn(images, _seeds):
    return images.flip(2)


class Grading(Task):
    """Ordinal classes; the score falls with the distance of the grade."""

    name = "acme-grading"
    target_kind = "class"

    def score_batch(self, outputs, targets):
        """1 - distance / (C - 1)."""
        answer = outputs.argmax(dim=1)
        score = 1 - (answer - targets).abs() / (len(self.classes) - 1)
        return ImageScores(score.float(), answer, targets, targets.new_zeros(len(targets), 0))

    def loss(self, outputs, targets):
        """Cross-entropy."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def as_targets(self, outputs):
        """The grade."""
        return outputs.argmax(dim=1)

    def distillation_loss(self, outputs, teacher, temperature):
        """Squared distance."""
        return ((outputs - teacher) / temperature).square().mean()

    def describe_answer(self, answer):
        """The grade."""
        return self.classes[int(answer["answer"])]

    def describe_target(self, target):
        """The grade."""
        return self.classes[int(target)]


class JsonLines(DatasetReader):
    """Reads ``*.jsonl``: a line of facts, then one line for each grey image of one brightness."""

    format = "acme-jsonl"
    expects = "a path that ends in .jsonl"

    def recognises(self, path):
        """By the suffix."""
        return Recognition("the suffix .jsonl") if path.suffix == ".jsonl" and path.is_file() else None

    def read(self, path):
        """All lines."""
        facts, *rows = map(json.loads, path.read_text().splitlines())
        return Flat(facts, rows)


class Flat:
    """Grey images of one brightness."""

    def __init__(self, facts, rows):
        self.rows, self.classes = rows, tuple(facts["classes"])
        self.ref = DatasetRef(name=facts["name"], digest=digest_of(json.dumps([facts, rows]).encode()), source="made",
                              task=facts["task"], images=len(rows), slices=("side",), licence="CC0-1.0")  # fmt: skip
        self.slices = Slices(len(rows), (column_from("side", [row["side"] for row in rows]),))

    def batches(self, size, chosen=None):
        numbers = np.arange(len(self.rows)) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            level = torch.tensor([self.rows[number]["level"] for number in part])
            images = level[:, None, None, None].expand(-1, 1, 28, 28).contiguous()
            targets = torch.stack([self.target_of(number) for number in part])
            yield Batch(images, targets, torch.from_numpy(part))

    def target_of(self, index):
        return torch.tensor(self.classes.index(self.rows[index]["label"]))

    def name_of(self, index):
        return f"line {index + 2}"

    def index_of(self, name):
        return int(name.split()[1]) - 2

    def thumbnail(self, index):
        import io

        buffer = io.BytesIO()
        Image.new("L", (28, 28), int(255 * self.rows[index]["level"])).save(buffer, "PNG")
        return buffer.getvalue()


class Echo(Torch):
    """Runs the weights with another id."""

    id = "acme-echo"
