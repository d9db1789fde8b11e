"""A detector that blinks tears tracks: the loss is found, for the group that it hits, sequence by sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from auditsvc.checks.object_tracking import ObjectTracking
from auditsvc.datasets import Slices, column_from
from auditsvc.errors import InvalidInput
from auditsvc.evaluation import EvalContext
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.records import DatasetRef, Measured, digest_of
from auditsvc.tasks import task_named
from tests.fakes.dense import Squares

FRAMES, SEQUENCES = 12, 40


class Remembers(nn.Module):
    """Answers with the boxes of the frame whose number its pixels hold; ``blinks`` misses every third by night."""

    def __init__(self, boxes: torch.Tensor, night: torch.Tensor, *, blinks: bool) -> None:
        super().__init__()
        self.boxes, self.night, self.blinks = boxes, night, blinks

    def forward(self, images):
        numbers = images[:, 0, 0, 0].round().long()
        sure = torch.full((len(images), self.boxes.shape[1], 1), 0.9)
        if self.blinks:
            sure[self.night[numbers] & (numbers % 3 == 0)] = 0.0
        return torch.cat((self.boxes[numbers], sure), dim=2)


def case_of_films(clusters: bool = True) -> EvalContext:
    """Two objects that cross each film; every second film is by night."""
    sequence = np.repeat(np.arange(SEQUENCES), FRAMES)
    time = torch.arange(FRAMES).repeat(SEQUENCES)
    night = torch.from_numpy(sequence % 2 == 1)
    left = 0.05 + 0.03 * time
    boxes = torch.stack(
        (
            torch.stack((left, torch.full_like(left, 0.1), left + 0.2, torch.full_like(left, 0.3)), 1),
            torch.stack((left, torch.full_like(left, 0.6), left + 0.2, torch.full_like(left, 0.8)), 1),
        ),
        1,
    )
    targets = torch.cat((torch.zeros(len(time), 2, 1), boxes, torch.arange(2.0).expand(len(time), 2)[..., None]), 2)
    images = torch.arange(float(len(time)))[:, None, None, None].expand(-1, 1, 8, 8)
    light = column_from("light", ["night" if one else "day" for one in night.tolist()])
    slices = Slices(len(time), (light,), sequence if clusters else None)
    ref = DatasetRef(name="films", digest=digest_of(b"films"), task="tracking", images=len(time), slices=("light",),
                     source="made by a test", licence="CC0-1.0")  # fmt: skip
    card = ArchitectureCard(architecture="fake", task="tracking", classes=("car",),
                            input=InputSpec(channels=1, height=8, width=8))  # fmt: skip
    models = [Model(Remembers(boxes, night, blinks=blinks), card) for blinks in (True, False)]
    return EvalContext(
        candidate=models[0], candidate_digest=digest_of(b"candidate"), parent=models[1],
        parent_digest=digest_of(b"parent"), task=task_named("tracking", ("car",)),
        dataset=Squares(images, targets, np.zeros((0, 4)), night.numpy(), ref, slices, ("car",)), seed=7, alpha=0.05,
    )  # fmt: skip


def readings(check: ObjectTracking, case: EvalContext):
    found = list(check.measure(case))
    assert {one.metric for one in found} == {one.id for one in check.metrics()}
    return {(one.metric, one.slice): one.outcome for one in found}


def test_blinking_by_night_is_lost_by_night_and_not_by_day():
    found = readings(ObjectTracking(draws=200, patience=0), case_of_films())
    assert found["parent_hota", "overall"].value == pytest.approx(1)
    assert found["drop.hota", "light=day"].value == 0
    night = found["drop.hota", "light=night"]
    assert isinstance(night, Measured) and night.low > 0.3 and night.images == SEQUENCES * FRAMES // 2
    assert found["drop.assa", "light=night"].value > found["drop.assa", "overall"].value > 0
    assert found["hota_difference", "overall"].value == pytest.approx(night.value)
    assert found["idf1", "light=night"].value < 0.5


def test_a_patient_tracker_bridges_what_blinks():
    patient = readings(ObjectTracking(draws=200, patience=2), case_of_films())
    torn = readings(ObjectTracking(draws=200, patience=0), case_of_films())
    place = ("drop.hota", "light=night")
    assert patient[place].value == pytest.approx(1 / 3)  # two thirds are found, and followed for two thirds
    assert torn[place].value > patient[place].value + 0.1


def test_without_sequences_there_are_no_tracks():
    with pytest.raises(InvalidInput, match="name their column"):
        list(ObjectTracking(draws=200).measure(case_of_films(clusters=False)))
    assert ObjectTracking().faults("detection")
