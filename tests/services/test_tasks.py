"""Every task through the whole line on real pictures: pruned, marked, loaded again, exported, audited, judged."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.demo.case_data import HERE
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.models import ArchitectureCard, InputSpec, build, model_files
from auditsvc.records import Candidate, Decision, Evidence, Measured, Recipe
from auditsvc.services.audit import discover_slices
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from auditsvc.services.decisions import judge
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.policies import read_policy
from auditsvc.services.tracing import queries_for
from auditsvc.services.watermarking import find_watermark_key, queries_of
from auditsvc.tasks import task_named
from tests.packs import pack
from tests.services.line import ports_in

pytestmark = pytest.mark.slow

FACTS = {"model": "net", "source": "made in a test", "licence": "Apache-2.0"}


def described(folder: Path, **fields: Any) -> Path:
    facts = {"name": "pictures", "source": "a pack of real pictures", "licence": "see its note"}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(facts | fields, allow_unicode=True), "utf-8")
    return folder


def held_out(folder: Path) -> Path:
    """Keep every tenth row for calibration, and the others for audits; what opens the former."""
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (folder / "metadata.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, [*rows[0], "purpose"])
        table.writeheader()
        table.writerows(row | {"purpose": "audit" if n % 10 else "calibration"} for n, row in enumerate(rows))
    facts = yaml.safe_load((folder / "dataset.yaml").read_text("utf-8"))
    for name, purpose in (("dataset.yaml", "audit"), ("calibration.yaml", "calibration")):
        text = yaml.safe_dump(facts | {"name": purpose, "where": {"purpose": purpose}}, allow_unicode=True)
        (folder / name).write_text(text, "utf-8")
    return folder / "calibration.yaml"


def trained(dataset: Dataset, card: ArchitectureCard, folder: Path, *, images: int, epochs: int) -> Path:
    """A parent that was trained on the first images of a random order."""
    task = task_named(card.task, card.classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batch = next(dataset.batches(dataset.ref.images, torch.randperm(dataset.ref.images)[:images].numpy()))
        network = build(card.architecture, card.arguments).train()
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
        steps = epochs * -(-images // 16)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        for _ in range(epochs):
            for part in torch.split(torch.randperm(images), 16):
                optimiser.zero_grad()
                task.loss(network(batch.images[part]), batch.targets[part]).mean().backward()
                optimiser.step()
                schedule.step()
    folder.mkdir()
    for name, data in model_files(network.eval().state_dict(), card).items():
        (folder / name).write_bytes(data)
    return folder


def through_the_line(
    parent_folder: Path, data: Path, calibration: Path, recipe: Recipe, policy: str, store: Path, **how: Any
) -> tuple[Candidate, Mapping[str, Evidence], Decision]:
    """A candidate with its evidence, by check, and the decision."""
    ctx = ports_in(store)
    dataset, rules = ctx.datasets.open(data), read_policy(policy)
    parent, version = register_parent(ctx, parent_folder, FACTS)
    candidate = prune_candidate(ctx, parent, recipe, ctx.datasets.open(calibration), **how)
    submit(ctx, candidate, version, "sue")
    evidence = measure_candidate(ctx, candidate, rules, dataset)
    discover_slices(ctx, candidate, rules, dataset)
    assert [item for item in evidence if not isinstance(item, Evidence)] == []
    found = {item.key.check: item for item in evidence if isinstance(item, Evidence)}
    assert list(queries_for(ctx)) == []
    copy = find_watermark_key(ctx, candidate.mark)
    assert copy is not None and candidate.mark is not None
    with pytest.raises(NotFound, match="more than one class"):
        queries_of(ctx, copy, candidate.mark)
    return candidate, found, judge(ctx, candidate, rules, evidence)


def value(evidence: Evidence, metric: str, name: str = "overall") -> float:
    outcome = evidence.reading(metric, name)
    assert isinstance(outcome, Measured), (metric, outcome)
    return outcome.value


CELLS = HERE / "cells"


def test_a_detector_that_was_hardly_pruned_loses_nothing_that_158_images_can_show(tmp_path):
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.1})
    candidate, found, decision = through_the_line(
        CELLS / "model", CELLS, CELLS / "train.yaml", recipe, "standard-detection", tmp_path, onnx=True
    )
    assert decision.outcome == "inconclusive", [item.words for item in decision.findings]
    blocking = [item for item in decision.findings if item.severity == "block"]
    assert blocking and all(item.verdict == "unknown" for item in blocking)
    assert any(file.name == "model.onnx" for file in candidate.files)
    assert value(found["watermark"], "log10_p") < -12
    assert value(found["accuracy"], "parent.clean") > 0.7 and value(found["object_detection"], "parent_recall") > 0.8


def test_a_detector_that_lost_its_rarest_class_is_rejected(tmp_path):
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.5})
    _, found, decision = through_the_line(
        CELLS / "model", CELLS, CELLS / "train.yaml", recipe, "standard-detection", tmp_path
    )
    assert value(found["accuracy"], "drop.clean") < 0.1
    assert value(found["object_detection"], "drop.worst_class") > 0.1
    assert decision.outcome == "rejected"
    assert "worst-class" in [item.rule for item in decision.findings if item.verdict in ("violated", "unknown")]
    flip = found["accuracy"].flips[0]
    assert flip.change == "worse" and "found" in flip.parent and "RBC" in flip.target


def test_fewer_channels_and_whole_numbers_are_tasks_like_any_other(tmp_path):
    ctx = ports_in(tmp_path)
    train = ctx.datasets.open(CELLS / "train.yaml")
    recovery = {"distillation": {"epochs": 2, "batch": 8, "rate": 0.01, "share": 1.0}}
    recipe = Recipe(
        method="structured-l1", targets={"macs": 1.3}, data=train.ref.digest, recovery=recovery, number_format="int8"
    )
    parent, _ = register_parent(ctx, CELLS / "model", FACTS)
    candidate = prune_candidate(ctx, parent, recipe, train, data=[train])
    (clean,) = measure_candidate(ctx, candidate, _only_accuracy(), ctx.datasets.open(CELLS))
    assert isinstance(clean, Evidence)
    assert value(clean, "drop.clean") < 0.15


def _only_accuracy():
    policy = read_policy("standard-detection")
    rules = tuple(rule for rule in policy.rules if rule.check == "accuracy")
    return policy.model_copy(update={"checks": {"accuracy": policy.checks["accuracy"]}, "rules": rules})


def panned(folder: Path, films: int, purpose: str = "audit", frames: int = 5, step: int = 3) -> Path:
    """Films of real pictures: the microscope's stage moves by a few pixels from frame to frame."""
    coco = json.loads((CELLS / "annotations.json").read_text())
    with (CELLS / "metadata.csv").open() as stream:
        audited = [row["image"] for row in csv.DictReader(stream) if row["purpose"] == purpose][:films]
    chosen = [image for image in coco["images"] if image["file_name"] in audited]
    made: dict[str, Any] = {"images": [], "annotations": [], "categories": coco["categories"]}
    (folder / "images").mkdir(parents=True)
    for film, image in enumerate(chosen):
        boxes = [one for one in coco["annotations"] if one["image_id"] == image["id"]]
        with Image.open(CELLS / image["file_name"]) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        for frame in range(frames):
            moved, number = frame * step, len(made["images"])
            name = f"images/{number:05}.png"
            Image.fromarray(np.pad(pixels, ((0, 0), (0, moved), (0, 0)), mode="edge")[:, moved:]).save(folder / name)
            light = "plain" if film % 2 else "odd"
            made["images"].append({"id": number, "file_name": name, "width": 160, "height": 120,
                                   "film": f"film-{film}", "light": light})  # fmt: skip
            for track, one in enumerate(boxes):
                x, y, width, height = one["bbox"]
                left, right = max(x - moved, 0), x + width - moved
                if right - left > 2:
                    box = {"bbox": [left, y, right - left, height], "track_id": track, "iscrowd": 0}
                    place = {"id": len(made["annotations"]), "image_id": number, "category_id": one["category_id"]}
                    made["annotations"].append(box | place)
    (folder / "annotations.json").write_text(json.dumps(made))
    return described(folder, task="tracking", image="file_name", annotations="annotations.json",
                     classes=["RBC", "WBC", "Platelets"],
                     cluster="film", slices=["light"])  # fmt: skip


def test_cells_are_followed_through_films_and_tracks_tear_before_frames_do(tmp_path):
    parent = Path(shutil.copytree(CELLS / "model", tmp_path / "parent"))
    card = json.loads((parent / "architecture.json").read_text())
    (parent / "architecture.json").write_text(json.dumps(card | {"task": "tracking"}))
    films = panned(tmp_path / "films", films=60)
    calibration = panned(tmp_path / "calibration", films=12, purpose="train")
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.5})
    _, found, decision = through_the_line(parent, films, calibration, recipe, "standard-tracking", tmp_path / "store")
    tracks = found["object_tracking"]
    assert value(tracks, "parent_hota") > value(tracks, "hota") > 0.3
    assert value(tracks, "drop.hota") > value(found["accuracy"], "drop.clean") > 0
    outcome = tracks.reading("drop.hota", "light=odd")
    assert isinstance(outcome, Measured) and outcome.images == 150 and outcome.low < outcome.value < outcome.high
    assert value(found["average_precision"], "parent_ap50") > value(found["average_precision"], "ap50")
    assert decision.outcome == "rejected"
    assert {"tracks-lost", "tracks-torn"} <= {item.rule for item in decision.judgements}


def test_a_policy_for_another_task_is_refused(tmp_path):
    ctx = ports_in(tmp_path)
    parent, _ = register_parent(ctx, CELLS / "model", FACTS)
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.1})
    candidate = prune_candidate(ctx, parent, recipe, ctx.datasets.open(CELLS / "train.yaml"))
    with pytest.raises(InvalidInput, match="the policy standard for classification"):
        measure_candidate(ctx, candidate, read_policy("standard"), ctx.datasets.open(CELLS))


def test_nuclei_are_segmented_in_groups_by_how_they_were_taken(tmp_path):
    folder = Path(shutil.copytree(pack("dsb2018-nuclei"), tmp_path / "nuclei"))
    described(
        folder, task="segmentation", target="mask", classes=["background", "nucleus"], foreground=True, size=[64, 64],
        slices=["modality_derived"],
    )  # fmt: skip
    card = ArchitectureCard(
        architecture="small_segmenter", arguments={"classes": 2, "width": 8}, task="segmentation",
        classes=("background", "nucleus"), input=InputSpec(channels=3, height=64, width=64),
    )  # fmt: skip
    parent = trained(DatasetReaders().open(folder), card, tmp_path / "parent", images=320, epochs=6)
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.3})
    _, found, decision = through_the_line(
        parent, folder, held_out(folder), recipe, "standard-segmentation", tmp_path / "store", onnx=True
    )
    assert value(found["accuracy"], "parent.clean") > 0.7
    assert value(found["semantic_segmentation"], "parent_miou") > 0.7
    group = "modality_derived=fluorescence"
    assert value(found["semantic_segmentation"], "miou", group) > value(
        found["semantic_segmentation"], "miou", "modality_derived=histology_purple"
    )
    assert value(found["semantic_segmentation"], "miou_difference") > 0.05
    assert {item.slice for item in decision.judgements if item.rule == "slice-loss" and item.verdict == "unknown"} >= {
        "modality_derived=brightfield_gray", "modality_derived=histology_other",
    }  # fmt: skip


def test_plates_are_read_in_groups_by_their_colour(tmp_path):
    source = pack("plates-ocr")
    folder = Path(shutil.copytree(source, tmp_path / "plates"))
    characters = (source / "weights" / "chars.txt").read_text("utf-8").strip()[:-1]
    described(folder, task="ocr", target="text", classes=list(characters), slices=["colour"])
    card = ArchitectureCard(
        architecture="small_reader", arguments={"classes": len(characters), "width": 16}, task="ocr",
        classes=tuple(characters), input=InputSpec(channels=3, height=24, width=94),
    )  # fmt: skip
    parent = trained(DatasetReaders().open(folder), card, tmp_path / "parent", images=800, epochs=24)
    recipe = Recipe(method="magnitude-global", targets={"sparsity": 0.7})
    _, found, decision = through_the_line(
        parent, folder, held_out(folder), recipe, "standard-ocr", tmp_path / "store", onnx=True
    )
    assert value(found["accuracy"], "parent.clean") > 0.75
    assert value(found["text_recognition"], "rise.cer") > 0.02 and decision.outcome == "rejected"
    flip = found["accuracy"].flips[0]
    assert len(flip.target) == 7 and flip.parent != flip.candidate
