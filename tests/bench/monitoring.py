"""Watching a release: false alarms over 1000 looks, delay of each change in images, estimates, ingest and kills.

``python -m tests.bench.monitoring``.  A small network is trained on Fashion-MNIST and pruned; its answers to test
images are the population.  False alarms: reference and stream are drawn from it, one look at each observation; the
seasonal stream has a day of 24 hours, the clustered one 4 equal frames of each visit.  Delay: 200 unchanged images,
then changed ones until the alarm; ``another camera`` goes from day to night of the day-night pack.  Peers look at
windows of 50 images, as they keep no state, in the same run.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from auditsvc.adapters.observations import SqlObservations
from auditsvc.evaluation.intervals import wilson
from auditsvc.evaluation.martingale import draw
from auditsvc.evaluation.observation_streams import Reference, Watcher
from auditsvc.models import ArchitectureCard, InputSpec, Model, build
from auditsvc.records import CHANNELS, Observation, digest_of
from auditsvc.services.observations import parse_observations
from auditsvc.services.watch_reference import WATCHED_PROPERTIES, Answering, measure_reference
from tests.packs import pack

LOOKS, REPEATS, ALPHA, WINDOW = 1000, 150, 0.05, 50
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
RELEASE = digest_of(b"release")
KILLS, PEER_LOOKS = 20, 5


def model_of(card: ArchitectureCard, images: torch.Tensor, labels: torch.Tensor, steps: int) -> Model:
    """A small network after some steps."""
    torch.manual_seed(0)
    module = build(card.architecture, card.arguments).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.003)
    for _ in range(steps):
        chosen = torch.randint(0, len(images), (64,))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(images[chosen]), labels[chosen]).backward()
        optimiser.step()
    return Model(module.eval(), card)


def pruned(model: Model, share: float) -> Model:
    """The same network without the smallest weights."""
    module = build(model.card.architecture, model.card.arguments)
    module.load_state_dict(model.module.state_dict())
    for weights in [one for one in module.parameters() if one.dim() > 1]:
        weights.data[weights.abs() < weights.abs().flatten().quantile(share)] = 0
    return Model(module, model.card)


class Shown:
    """Images in memory as a data set."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images, labels
        self.ref = types.SimpleNamespace(images=len(images))
        self.slices = types.SimpleNamespace(clusters=None, columns=())

    def batches(self, size: int, chosen: Any = None) -> Any:
        from auditsvc.datasets.dataset import Batch

        numbers = torch.arange(len(self.images)) if chosen is None else torch.from_numpy(chosen)
        for part in torch.split(numbers, size):
            yield Batch(self.images[part], self.labels[part], part)


def observed(models: Answering, images: torch.Tensor, **more: Any) -> list[Observation]:
    """What is seen of these images, every tenth of them answered by the parent too."""
    found, dense = models.answer(images), models.parent(images)
    return [
        Observation(
            at=START,
            scores=tuple(found.scores[place].tolist()),
            parent=tuple(dense[place].tolist()) if place % 10 == 0 else (),
            features=tuple(found.features[place].tolist()),
            properties={name: float(held[place]) for name, held in found.properties.items()},
            **more,
        )
        for place in range(len(images))
    ]


def false_alarms(pool: list[Observation]) -> dict[str, Any]:
    """The share of streams with any alarm in ``LOOKS`` looks, by kind of stream."""
    plain = [one.model_copy(update={"features": ()}) for one in pool]
    found = {}
    for kind in ("iid", "seasonal", "clustered"):
        alarmed = sum(_alarmed(plain, kind, number) for number in range(REPEATS))
        ends = wilson(np.array([float(alarmed)]), np.array([float(REPEATS)]), ALPHA / 2)
        found[kind] = {"share": alarmed / REPEATS, "low": round(float(ends.low[0]), 4),
                       "high": round(float(ends.high[0]), 4), "streams": REPEATS, "looks": LOOKS}  # fmt: skip
    return found


def _alarmed(pool: list[Observation], kind: str, number: int) -> bool:
    chance = np.random.default_rng(number)
    drawn = [pool[place] for place in chance.integers(0, len(pool), 400)]
    channels = {
        "confidence": np.array([max(one.scores) for one in drawn]),
        "classes": np.array([float(np.argmax(one.scores)) for one in drawn]),
        "brightness": np.array([one.properties["brightness"] for one in drawn]),
    }
    reference = Reference(channels, {}, np.zeros((0, 0)), np.zeros((2, 0)), frozenset(), np.zeros(0, np.uint8))
    season = {"block": 3600.0, "period": 86400.0} if kind == "seasonal" else {}
    watcher = Watcher(reference, ("confidence", "classes", "brightness"), (), ALPHA, str(number), **season)
    place = 0
    for look in range(LOOKS):
        first = kind != "clustered" or look % 4 == 0
        place = int(chance.integers(0, len(pool))) if first else place
        seen, hour = pool[place], look % 24
        if kind == "seasonal":
            light = seen.properties["brightness"] + 0.3 * np.sin(2 * np.pi * hour / 24)
            seen = seen.model_copy(
                update={"at": START + datetime.timedelta(hours=look), "properties": {"brightness": light}}
            )
        watcher.see(look, seen, first=first)
    return any(True for _ in watcher.alarms())


def delay(
    reference: Reference, before: list[Observation], after: list[Observation], columns: tuple[str, ...] = ()
) -> Any:
    """Changed images until the alarm, the median of three orders; None where one raises none."""
    found = []
    for number in range(3):
        chance = np.random.default_rng(number)
        watcher = Watcher(reference, CHANNELS, columns, ALPHA, str(number))
        for position, place in enumerate(chance.integers(0, len(before), 200)):
            watcher.see(position, before[place])
        if list(watcher.alarms()):
            return {"early": True}
        for count, place in enumerate(chance.integers(0, len(after), 1500), 1):
            watcher.see(1000 + count, after[place])
            if any(one.alarmed for one in watcher.readings()):
                found.append(count)
                break
        else:
            return None
    return int(np.median(found))


def changes(models: Answering, images: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Observations before and after each change, and the columns that are watched."""
    from auditsvc.evaluation.perturbations.blur import gaussian_blur

    before = observed(models, images)
    seeds = torch.arange(len(images))
    broken = observed(models, images * 0.3, device="cam-9")
    rare = [one.model_copy(update={"device": f"cam-{place % 9}"}) for place, one in enumerate(before)]
    mixed = [one for pair in zip(*[iter(rare)] * 9, strict=False) for one in pair]
    swapped = observed(Answering(pruned(models.model, 0.9), models.dense, "cpu"), images)
    shifted = [one for one, label in zip(before, labels.tolist(), strict=True) if label < 4]
    return {
        "brightness x 0.5": (before, observed(models, images * 0.5), ()),
        "blur": (before, observed(models, gaussian_blur(images, seeds, 1.0)), ()),
        "class shift": (before, shifted + before[: len(shifted) // 2], ()),
        "broken slice": (
            rare,
            [one for pair in zip(mixed, broken * 9, strict=False) for one in pair][: 2 * len(rare)],
            ("device",),
        ),
        "swapped candidate": (before, swapped, ()),
    }


def night(folder: Path) -> tuple[Any, Any, Any]:
    """Day and night pictures of the pack: a network that tells them apart, the day's reference, both observed."""
    pixels = {"day": [], "night": []}
    for line in (folder / "metadata.csv").read_text().splitlines()[1:]:
        name, _, label = line.split(",")[:3]
        with Image.open(folder / name) as image:
            pixels[label].append(np.asarray(image.convert("L").resize((28, 28)), np.float32) / 255)
    day, dark = (torch.from_numpy(np.stack(pixels[name]))[:, None] for name in ("day", "night"))
    card = card_of(("day", "night"))
    both, labels = torch.cat((day, dark)), torch.cat((torch.zeros(len(day)), torch.ones(len(dark)))).long()
    dense = model_of(card, both, labels, 60)
    models = Answering(pruned(dense, 0.5), dense, "cpu")
    day, half = day[torch.randperm(len(day), generator=torch.Generator().manual_seed(0))], len(day) // 2
    reference = measure_reference(models, Shown(day[:half], labels[:half]))  # type: ignore[arg-type]
    return reference, observed(models, day[half:]), observed(models, dark)


def card_of(classes: tuple[str, ...]) -> ArchitectureCard:
    return ArchitectureCard(architecture="small_cnn", arguments={"classes": len(classes), "width": 8}, classes=classes,
                            task="classification", input=InputSpec(channels=1, height=28, width=28))  # fmt: skip


def frame(rows: list[Observation]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        [{"confidence": max(one.scores), **{n: one.properties[n] for n in WATCHED_PROPERTIES}} for one in rows]
    )


def peers(pool: list[Observation], made: dict[str, Any]) -> dict[str, Any]:
    """For each peer that can be imported: images until drift is reported, false alarms of 20 looks, seconds of CPU."""
    found: dict[str, Any] = {}
    for name, detector in (("evidently", evidently), ("alibi-detect", alibi), ("nannyml", nannyml)):
        start = time.process_time()
        try:
            detect = detector(frame(pool[:400]))
            chance = np.random.default_rng(1)
            false = sum(
                detect(frame([pool[at] for at in chance.integers(400, len(pool), WINDOW)])) for _ in range(PEER_LOOKS)
            )
            delays = {}
            for change, (_, after, _) in made.items():
                seen = (count for count in range(WINDOW, 201, WINDOW) if detect(frame(
                    [after[at] for at in np.random.default_rng(count).integers(0, len(after), WINDOW)])))  # fmt: skip
                delays[change] = next(seen, None)
            found[name] = {"delay_images": delays, "looks": PEER_LOOKS, "false_looks": int(false),
                           "cpu_s": round(time.process_time() - start, 1)}  # fmt: skip
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is what it says
            found[name] = {"not_run": f"{type(error).__name__}: {error}"[:200]}
    return found


def evidently(reference: Any) -> Any:
    import pandas.core.dtypes.common as common

    if not hasattr(common, "infer_dtype_from_object"):  # gone in pandas 3; Evidently imports it
        common.infer_dtype_from_object = lambda kind: np.dtype(kind).type
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def detect(window: Any) -> bool:
        result = Report([DataDriftPreset()]).run(window, reference).dict()
        return bool(next(one["value"]["share"] for one in result["metrics"] if "share" in str(one["value"])) >= 0.5)

    return detect


def alibi(reference: Any) -> Any:
    if "transformers" not in sys.modules:  # imported for text alone
        stub = types.ModuleType("transformers")
        stub.__spec__ = ModuleSpec("transformers", None)
        for name in ("AutoTokenizer", "AutoModel", "AutoConfig", "TFAutoModel", "PreTrainedTokenizerBase"):
            setattr(stub, name, type(name, (), {}))
        sys.modules["transformers"] = stub
    from alibi_detect.cd import KSDrift

    detector = KSDrift(reference.to_numpy(np.float32), p_val=ALPHA)
    return lambda window: bool(detector.predict(window.to_numpy(np.float32))["data"]["is_drift"])


def nannyml(reference: Any) -> Any:
    import nannyml as peer

    made = peer.UnivariateDriftCalculator(column_names=list(reference.columns), chunk_size=WINDOW).fit(reference)
    return lambda window: bool(made.calculate(window).to_df().filter(like="alert").to_numpy().any())


def estimate_error(
    models: Answering, reference: Reference, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """Estimated less true accuracy in points, under changes that the calibration did not have."""
    assert reference.estimator is not None
    found = {}
    for name, made in (("untouched", images), ("gamma 2", images**2), ("shade", images * torch.linspace(0.2, 1, 28))):
        scores = models.answer(made).scores
        true = float((scores.argmax(1) == labels.numpy()).mean())
        found[name] = round(100 * (float((scores.max(1) > reference.estimator[0]).mean()) - true), 2)
    return found | {"widened_by_pp": round(100 * reference.estimator[1], 2)}


def rows_per_s(folder: Path, rows: int = 20_000) -> float:
    """Rows a second from the JSON of a request into the store, in batches of 5000; CPU seconds."""
    store = SqlObservations(f"sqlite:///{folder}/speed.db")
    scores = [0.1] * 10
    at = START.isoformat()
    bodies = [
        json.dumps([{"id": f"{batch}-{n}", "at": at, "device": "cam-1", "scores": scores, "properties": {"light": 0.5}}
                    for n in range(5000)]).encode() for batch in range(rows // 5000)
    ]  # fmt: skip
    start = time.process_time()
    for body in bodies:
        seen = parse_observations(body)
        store.add(RELEASE, [(str(one.id), one.at, "", one.model_dump_json(exclude_defaults=True)) for one in seen])
    taken = time.process_time() - start
    store.close()
    return round(rows / taken)


WORKER = """
import datetime, sys
from auditsvc.adapters.observations import SqlObservations
release, at = sys.argv[2], datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
store, names = SqlObservations(f"sqlite:///{sys.argv[1]}/kills.db"), [f"row-{number}" for number in range(20000)]
for start in range(0, 20000, 50):
    store.add(release, [(name, at, "", name) for name in names[start : start + 50]])
    position, counted, _ = store.state(release) or (0, 0, b"")
    if rows := store.after(release, position, 50):
        store.keep_state(release, rows[-1][0], counted + len(rows), b"")
"""
"""What is killed: sends the same rows from the first on, and counts those that came, keeping its state."""


def kills(folder: Path) -> dict[str, int]:
    """After ``KILLS`` kills every row is there and counted once."""
    command, seen = [sys.executable, "-c", WORKER, str(folder), RELEASE], 0
    store = SqlObservations(f"sqlite:///{folder}/kills.db")
    for number in range(KILLS):
        process = subprocess.Popen(command)
        while process.poll() is None and (store.state(RELEASE) or (0, 0, b""))[0] <= seen:
            time.sleep(0.02)
        time.sleep(0.3 * draw("kill", number)[0])
        process.kill()
        process.wait()
        seen = (store.state(RELEASE) or (0, 0, b""))[0]
    position, counted, _ = store.state(RELEASE) or (0, 0, b"")
    kept = [name for _, name, _ in store.after(RELEASE, 0, 30_000)]
    counted += len(store.after(RELEASE, position, 30_000))
    store.close()
    return {"kills": KILLS, "rows": len(kept), "lost": len(set(kept)) - min(counted, len(set(kept))),
            "doubled": len(kept) - len(set(kept)) + max(counted - len(kept), 0)}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    start = time.process_time()
    held = np.load(pack("fashion-mnist") / "fashion_mnist_20k10k.npz")
    taught, shown = (torch.from_numpy(held[name]).float()[:, None] / 255 for name in ("x_train", "x_test"))
    answers, truth = (torch.from_numpy(held[name]).long() for name in ("y_train", "y_test"))
    dense = model_of(card_of(tuple("abcdefghij")), taught, answers, 300)
    models = Answering(pruned(dense, 0.6), dense, "cpu")
    reference = measure_reference(models, Shown(shown[:700], truth[:700]))  # type: ignore[arg-type]
    pool = observed(models, shown[700:1700])
    made = changes(models, shown[700:1700], truth[700:1700])
    delays = {name: delay(reference, *one) for name, one in made.items()}
    delays["another camera"] = delay(*night(pack("day-night")))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "alpha": ALPHA,
            "false_alarm_share": false_alarms(pool),
            "delay_images": delays,
            "detected": sum(isinstance(one, int) for one in delays.values()),
            "changes": len(delays),
            "peer_delay_images": peers(pool, made),
            "estimate_error_pp": estimate_error(models, reference, shown[1700:3700], truth[1700:3700]),
            "rows_per_s": rows_per_s(folder),
            **kills(folder),
            "cpu_s": round(time.process_time() - start, 1),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
