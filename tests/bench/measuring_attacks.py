"""Attacks on what is measured: data easier than it looks, files that answer otherwise, numbers that hide a loss.

Registered with ``tests.bench.gate_attacks``, which runs them.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
import yaml
from PIL import Image

from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.importing import ONNX
from auditsvc.models import build, load_model, model_files
from tests.bench.attack_store import BAD, EASY, FACTS, GOOD, MODEL, Done, Inside, another, attack, later, waive_all
from tests.importing.graphs import brightness
from tests.services.line import CARD, data_in

MARGIN = [{"rule": "loss", "reading": "accuracy/drop.clean", "at_most": 0.05, "why": "five points"}]
EACH = [{"rule": "groups", "reading": "accuracy/drop.clean", "slices": "each", "at_most": 0.2, "why": "a margin"}]


def table(path: Path, images: int, lost: int = 0, *, seed: int = 0, **columns: Callable[[int], object]) -> Path:
    """Predictions of a parent that is always right and of a candidate that is wrong on so many of the images; rows in
    an order drawn from the seed; ``columns`` are further ones by the image's number."""
    chance = np.random.default_rng(seed)
    wrong = set(chance.permutation(images)[:lost].tolist())
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "truth", "parent", "candidate", *columns))
        for number in chance.permutation(images).tolist():
            truth = "ab"[number % 2]
            answer = "ba"[number % 2] if number in wrong else truth
            writer.writerow((f"{number}.png", truth, truth, answer, *(one(number) for one in columns.values())))
    return path


def predicted(inside: Inside, path: Path, policy: Path, model: str = "answers", *more: object) -> Done:
    """An audit of predictions."""
    words = ("audit", "--predictions", path, "--model", model, "--policy", policy, "--as", "mallory", *more)
    return inside.run(*words)


def elsewhere(inside: Inside, folder: Path, policy: Path, *more: object) -> Done:
    """An audit of a model folder or file that was pruned elsewhere."""
    words = ("--candidate", folder, "--parent", inside.folder / "parent", "--data", inside.data, *FACTS)
    return inside.run("audit", "--model", MODEL, *words, "--policy", policy, "--as", "mallory", *more)


def photographs(folder: Path, pixels: Mapping[str, np.ndarray], *, size: int = 28, **described: object) -> Path:
    """A folder of PNG files, grey, dark and bright in turn as ``line.data_in`` makes them."""
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "label", "video"))
        for name, image in pixels.items():
            Image.fromarray(image.astype(np.uint8)).resize((size, size)).save(folder / name)
            writer.writerow((name, ("dark", "bright")[int(image.mean() > 115)], name.partition("_")[0]))
    fields = {"name": folder.name, "task": "classification", "target": "label", "classes": ["dark", "bright"],
              "source": "made by a bench", "licence": "Apache-2.0"}  # fmt: skip
    (folder / "dataset.yaml").write_text(yaml.safe_dump(fields | described))
    return folder


def bursts(scenes: int, frames: int, noise: float = 4, seed: int = 0) -> list[np.ndarray]:
    """``(28, 28)`` images, so many of each scene: a smooth picture that moves by a third of a pixel in the noise of a
    camera."""
    chance, found = np.random.default_rng(seed), []
    for scene in range(scenes):
        coarse = chance.integers(0, 80, (6, 6)) + 150 * (scene % 2)
        picture = Image.fromarray(coarse.astype(np.uint8)).resize((86, 86), Image.Resampling.BICUBIC)
        for _ in range(frames):
            top, left = chance.integers(0, 3, 2).tolist()
            frame = picture.crop((left, top, left + 84, top + 84)).resize((28, 28), Image.Resampling.BOX)
            found.append((np.asarray(frame) + chance.normal(0, noise, (28, 28))).clip(0, 255))
    return found


@attack
def superseded_approval(inside: Inside) -> bool:
    """Approvals of a decision with waivers are used after a newer audit, without the waivers, rejected it."""
    waive_all(inside, "ann")
    for person in ("bob", "cyd"):
        inside.did("approve", MODEL, BAD, "--as", person)
    with inside.service() as (_, http):
        digest = http.get("/v1/decisions", params={"limit": 1}).json()["items"][0]["digest"]
        with later(2):
            if inside.audit(BAD, inside.policy("rules.yaml")).code != 1:
                raise RuntimeError("the audit without waivers did not reject")
            made = http.post("/v1/tokens", json={"name": "aud", "role": "auditor"}).json()
            auditor = {"authorization": f"Bearer {made['token']}"}
            code = http.post(f"/v1/decisions/{digest}/release", headers=auditor).status_code
            return code == 409 and inside.run("release", MODEL, BAD).code != 0 and inside.gate(BAD) != 0


@attack
def fifty_tries(inside: Inside) -> bool:
    """A candidate that breaks a rule is sent again, each time as another data set of the same images, until a lucky
    one passes; as a first try that one passes."""
    rules = inside.policy("tries.yaml", policy="tries", rules=MARGIN, spend_alpha=True)
    lucky = table(inside.folder / "first.csv", 200, lost=3)
    if predicted(inside, lucky, rules, "first").code != 0:
        raise RuntimeError("the lucky candidate does not pass as the first one")
    for number in range(4):
        path = table(inside.folder / f"try-{number}.csv", 200, lost=13 + number, seed=number)
        if predicted(inside, path, rules).code == 0:
            return False
    return predicted(inside, table(inside.folder / "last.csv", 200, lost=3, seed=9), rules).code != 0


def tried_before(inside: Inside, data: Path, shopped: Path, model: str = MODEL) -> bool:
    """Three bad candidates are judged first, as ``model`` or on other images; then a good one, which would pass as the
    first of its line, may not pass."""
    rule = [{"rule": "loss", "reading": "accuracy/drop.clean", "at_most": 0.033, "why": "as the first: 100 images"}]
    rules = inside.policy("spent.yaml", policy="spent", rules=rule, spend_alpha=True)
    for sparsity in (0.97, 0.96, 0.95):
        if inside.audit(another(inside, f"sparsity={sparsity}", model=model), rules, shopped, model).code == 0:
            raise RuntimeError("a bad candidate was approved")
    good = another(inside)
    done = inside.audit(good, rules, data)
    if inside.audit(good, inside.policy("whole.yaml", policy="whole", rules=rule, alpha=0.0375), data).code != 0:
        raise RuntimeError("the good candidate does not pass as the first one")
    return done.code == 3


@attack
def tries_under_another_name(inside: Inside) -> bool:
    """The same parent is registered as another model, and candidates are tried there until one is lucky."""
    fresh = data_in(inside.folder / "fresh", 200, seed=5)
    return tried_before(inside, fresh, fresh, "shadow")


@attack
def tries_on_nearly_the_same_images(inside: Inside) -> bool:
    """Candidates are tried on copies of the images that differ by a grey value, until one is lucky."""
    fresh, near = data_in(inside.folder / "fresh", 200, seed=5), inside.folder / "near"
    shutil.copytree(fresh, near)
    change_by_a_grey_value(near)
    return tried_before(inside, fresh, near)


def change_by_a_grey_value(folder: Path) -> None:
    """Noise of one grey value on all images of a data set."""
    with np.load(folder / "images.npz") as archive:
        pixels = archive["images"].astype(int)
    changed = (pixels + np.random.default_rng(1).integers(-1, 2, pixels.shape)).clip(0, 255)
    np.savez_compressed(folder / "images.npz", images=changed.astype(np.uint8))


@attack
def images_replaced_after_they_were_counted(inside: Inside) -> bool:
    """The files of a data set are replaced between its opening, which computes its digest, and the measuring."""
    loss = [{"rule": "loss", "reading": "accuracy/drop.clean", "at_most": 0.2, "why": "a margin"}]
    rules, noise = inside.policy("loss.yaml", policy="loss", rules=loss), np.random.default_rng(6)
    images = {f"{number:05x}.png": noise.integers(0, 80, (28, 28)) + 150 * (number % 2)
              for number in noise.permutation(10**5)[:200].tolist()}  # fmt: skip
    data, opened = photographs(inside.folder / "pictures", images), DatasetReaders.open
    if inside.audit(BAD, rules, data).code == 0:
        raise RuntimeError("the bad candidate is approved without a trick")

    def swapping(readers: DatasetReaders, path: Path) -> Dataset:
        found = opened(readers, path)
        for image in path.glob("*.png"):
            Image.fromarray(noise.integers(0, 80, (28, 28)).astype(np.uint8)).save(image)
        return found

    with patch.object(DatasetReaders, "open", swapping):
        return inside.audit(another(inside, "sparsity=0.96"), rules, data).code != 0


@attack
def copies_fill_the_data(inside: Inside) -> bool:
    """Too few images are listed fifteen times."""
    rules, pictures = inside.policy("each.yaml", policy="each", rules=MARGIN), bursts(24, 1)
    noise = np.random.default_rng(0)
    for title, spread, times in (("few", 0, 1), ("exact", 0, 15), ("nearly", 1, 15)):
        many = {f"{copy:02}{number:03}.png": (image + noise.normal(0, spread, image.shape)).clip(0, 255)
                for copy in range(times) for number, image in enumerate(pictures)}  # fmt: skip
        if inside.audit(GOOD, rules, photographs(inside.folder / title, many)).code != 3:
            return False
    return True


@attack
def tested_on_its_training_images(inside: Inside) -> bool:
    """A candidate is fine-tuned on the audited images, or on copies of them that differ by a grey value."""
    near = shutil.copytree(inside.data, inside.folder / "near")
    change_by_a_grey_value(near)
    for data in (inside.data, near):
        words = ("--parent", inside.folder / "parent", "--calibration", inside.folder / "calibration", "--data", data)
        prune = inside.did("prune", *words, "--model", MODEL, *FACTS, "--target", "sparsity=0.2", "--recover",
                           "fine-tune:epochs=1", "--as", "sue", "--json")  # fmt: skip
        if inside.audit(str(prune.fields["version"]), inside.policy("rules.yaml")).code != 2:
            return False
    return True


@attack
def frames_of_a_video(inside: Inside) -> bool:
    """Twenty bursts of ten frames are handed in as 200 images, under the names that a camera gives and under others."""
    checks = {"accuracy": {"version": 1}, "independence": {"version": 1}}
    alone = {"rule": "alone", "reading": "independence/undeclared_clusters", "at_most": 0, "why": "no hidden clusters"}
    rules = inside.policy("video.yaml", policy="video", rules=[*MARGIN, alone], checks=checks)
    frames = bursts(20, 10)
    names = [f"video{number // 10:02}_frame{number % 10:04}.png" for number in range(200)]
    hidden = [f"{number:05x}.png" for number in np.random.default_rng(3).permutation(10**5)[:200].tolist()]
    for title, given in (("named", names), ("renamed", hidden)):
        data = photographs(inside.folder / title, dict(zip(given, frames, strict=True)))
        done = inside.audit(GOOD, rules, data)
        if done.code == 0 or "cluster" not in done.text:
            return False
    one_each = {f"{number:05x}.png": frame for number, frame in enumerate(bursts(200, 1, seed=1))}
    if inside.audit(GOOD, rules, photographs(inside.folder / "independent", one_each)).code != 0:
        raise RuntimeError("200 independent images are not enough")
    declared = photographs(inside.folder / "declared", dict(zip(names, frames, strict=True)), cluster="video")
    return inside.audit(GOOD, rules, declared).code == 3


@attack
def frames_that_are_declared(inside: Inside) -> bool:
    """20 videos of 50 images, on one of which one image is lost: too few videos for five points, and fewer lost images
    may not say less than none."""
    rules = inside.policy("margin.yaml", policy="margin", rules=MARGIN)
    for lost in (0, 1):
        data = inside.folder / f"videos-{lost}"
        images = {f"{number % 20}_{number // 20}.png": np.full((8, 8), 200 * (number % 2)) for number in range(1000)}
        photographs(data, images, size=8, cluster="video")
        path = inside.folder / f"videos-{lost}.csv"
        with path.open("w") as stream:
            stream.write("image,parent,candidate\n")
            for place, name in enumerate(images):
                truth, wrong = ("dark", "bright")[:: 1 if place % 2 == 0 else -1]
                stream.write(f"{name},{truth},{wrong if place < lost else truth}\n")
        if predicted(inside, path, rules, f"videos-{lost}", "--data", data).code == 0:
            return False
    return True


@attack
def rare_catastrophe(inside: Inside) -> bool:
    """A detector whose boxes are all a little off, and which loses two images in a hundred, is tried on 50 images, of
    which none is lost."""
    rules = inside.policy("boxes.yaml", policy="boxes", task="detection", rules=MARGIN)
    data = inside.folder / "boxes"
    data.mkdir()
    chance = np.random.default_rng(5)
    for number in range(50):
        Image.fromarray(chance.integers(0, 255, (60, 80)).astype(np.uint8)).save(data / f"{number}.png")
    boxes = [{"image_id": n, "category_id": 1, "bbox": [8, 6, 40, 30]} for n in range(50)]
    images = [{"id": n, "file_name": f"{n}.png", "width": 80, "height": 60} for n in range(50)]
    content = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": boxes}
    (data / "boxes.json").write_text(json.dumps(content))
    near = [
        one | {"score": 0.9, "bbox": [8 + shift, 6, 40, 30]}
        for one, shift in zip(boxes, chance.random(50), strict=True)
    ]
    files = inside.folder / "parent.json", inside.folder / "candidate.json"
    for path, found in zip(files, ([one | {"score": 0.9} for one in boxes], near), strict=True):
        path.write_text(json.dumps(found))
    done = predicted(inside, files[1], rules, "cats", "--parent-predictions", files[0], "--data", data)
    return done.code == 3


@attack
def group_that_can_not_be_measured(inside: Inside) -> bool:
    """One group is never recognised, and the rate of the others has no images that it is a share of."""
    odds = {"rule": "odds", "reading": "fairness/equalized_odds_difference", "at_most": 0.3, "why": "a gap"}
    rules = inside.policy("odds.yaml", policy="odds", rules=[odds], checks={"fairness": {"version": 1}})
    path = table(inside.folder / "odds.csv", 800, group=lambda number: "ab"[number % 2])  # each group has one class
    small = table(inside.folder / "small.csv", 800, group=lambda number: "c" if number < 20 else "ab"[number // 2 % 2])
    return predicted(inside, path, rules, "odds").code == 3 and predicted(inside, small, rules, "small").code == 3


def changes_by_the_batch(path: Path) -> bool:
    """Whether an ONNX file gives an image other answers in some batch; one that takes no other batch does not."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    images = np.linspace(0.05, 0.95, 100, dtype=np.float32)[:, None, None, None] * np.ones((1, 28, 28), np.float32)
    name = session.get_inputs()[0].name
    alone = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    for size in (7, 10, 32, 100):
        try:
            together = session.run(None, {name: images[:size]})[0]
        except Exception as error:
            if "invalid dimensions" not in str(error):
                raise
        else:
            if not np.allclose(together, alone[:size], atol=1e-4):
                return True
    return False


@attack
def runtime_file_that_answers_by_the_batch(inside: Inside) -> bool:
    """An ONNX file flips its answers in small batches, in large ones, or in those of ten images; alone, and alongside
    honest weights.  What is signed may not."""
    rules, parent = inside.policy("rules.yaml"), inside.folder / "parent"
    given = [{"flips_below": 8}, {"flips_from": 20}, {"flips_from": 65}, {"flips_at": 10}]
    for number, flips in enumerate(given):
        path = inside.folder / f"trojan-{number}.onnx"
        path.write_bytes(brightness(**flips))
        done = elsewhere(inside, path, rules, "--json")
        if done.code == 0 and inside.release(done.fields["version"], "ann", "bob"):
            signed = inside.store / "releases" / MODEL / str(done.fields["version"]) / "release" / ONNX
            if changes_by_the_batch(signed):
                return False
    both = shutil.copytree(parent, inside.folder / "both")
    module = load_model(parent).module
    with torch.no_grad():
        for value in module.parameters():
            value[value.abs() < 0.01] = 0
    for name, content in model_files(module.state_dict(), CARD).items():
        (both / name).write_bytes(content)
    (both / ONNX).write_bytes(brightness(flips_below=8))
    version = elsewhere(inside, both, rules, "--json").fields["version"]
    if not inside.release(version, "ann", "bob"):
        raise RuntimeError("the honest weights were not released")
    return not changes_by_the_batch(inside.store / "releases" / MODEL / version / "release" / ONNX)


@attack
def outputs_that_the_card_does_not_name(inside: Inside) -> bool:
    """A head of three outputs behind a card of two classes; as weights and as a graph."""
    wide = inside.folder / "wide"
    wide.mkdir()
    with torch.random.fork_rng():
        module = build(CARD.architecture, CARD.arguments | {"classes": 3})
    for name, content in model_files(module.state_dict(), CARD).items():
        (wide / name).write_bytes(content)
    card = CARD.model_copy(update={"arguments": CARD.arguments | {"classes": 3}})
    agreed = shutil.copytree(wide, inside.folder / "agreed")
    (agreed / "architecture.json").write_bytes(card.canonical())
    graph = inside.folder / "wide.onnx"
    graph.write_bytes(brightness(classes=3))
    return all(elsewhere(inside, one, inside.policy("rules.yaml")).code == 2 for one in (wide, agreed, graph))


@attack
def candidate_without_the_mark(inside: Inside) -> bool:
    """A candidate pruned elsewhere comes without the mark that a rule asks for; the obstacle is named before it is
    measured, and marking it on admission removes it."""
    checks = {"accuracy": {"version": 1}, "watermark": {"version": 1}}
    found = {"rule": "mark-found", "reading": "watermark/log10_p", "at_most": -3, "why": "the owner's mark"}
    rules = inside.policy("marked.yaml", policy="marked", checks=checks, rules=[*EASY, found])
    folder = shutil.copytree(inside.folder / "parent", inside.folder / "pruned")
    module = load_model(folder).module
    with torch.no_grad():
        for value in module.parameters():
            value[value.abs() < 0.02] = 0
    for name, content in model_files(module.state_dict(), CARD).items():
        (folder / name).write_bytes(content)
    plain = elsewhere(inside, folder, rules)
    marked = elsewhere(inside, folder, rules, "--mark", inside.folder / "calibration")
    return plain.code == 3 and "--mark" in plain.text and marked.code == 0


@attack
def report_that_excuses_a_small_group(inside: Inside) -> bool:
    """A group of 26 images, far fewer than the rule's minimum, loses every answer; report and gate say the same."""
    loss: dict[str, Any] = {**EACH[0], "min_images": 125, "below_minimum": "warn"}
    rules = inside.policy("groups.yaml", policy="groups", rules=[*EASY, loss])
    path = table(inside.folder / "groups.csv", 400, group=lambda number: "small" if number < 26 else "large")
    rows = [line.split(",") for line in path.read_text().splitlines()]
    for row in rows:
        row[3] = "ab"[row[1] == "a"] if row[4] == "small" else row[3]
    path.write_text("\n".join(map(",".join, rows)) + "\n")
    done = predicted(inside, path, rules, "groups", "--json")
    words = Path(done.fields["report"]).read_text().casefold()
    return done.code == 1 and "never judged" not in words and "can fail, never pass" in words
