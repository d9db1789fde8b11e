"""Two data sets as one: images keep targets and slices, and the other domain is a slice with a loss of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auditsvc.checks.domain_shift import DomainShift
from auditsvc.datasets.multi_domain import join_domains
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidDataset
from tests.fakes.models import SeesMeanBrightness, array_dataset, case_of, grey_dataset
from tests.services.line import data_in


def of(levels: list[float], **columns: list[str]):
    images = torch.tensor(levels)[:, None, None, None].expand(-1, 1, 4, 4).clone()
    return array_dataset(images, np.array([int(level > 0.5) for level in levels]), columns)


OWN, OTHER = of([0.1, 0.9, 0.2], camera=["a", "b", "a"]), of([0.8, 0.3], camera=["c", "a"], place=["in", "out"])


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("chosen", [None, [4, 0, 3], [1]])
def test_images_come_in_the_order_that_was_asked_for(size: int, chosen: list[int] | None) -> None:
    both = join_domains(OWN, OTHER)
    numbers = None if chosen is None else np.array(chosen)
    batches = list(both.batches(size, numbers))
    wanted = range(5) if chosen is None else chosen
    levels = [0.1, 0.9, 0.2, 0.8, 0.3]
    assert torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).tolist() == pytest.approx(
        [levels[n] for n in wanted]
    )
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(wanted)
    assert torch.cat([batch.targets for batch in batches]).tolist() == [both.target_of(n) for n in wanted]


def test_slices_are_the_union_and_say_which_domain() -> None:
    slices = join_domains(OWN, OTHER).slices
    assert slices.of(0) == ("domain=own", "camera=a")
    assert slices.of(3) == ("domain=other", "camera=c", "place=in")
    assert slices.of(4) == ("domain=other", "camera=a", "place=out")
    assert dict(zip(slices.names, slices.sums(np.ones(5)), strict=True)) == {
        "overall": 5, "domain=own": 3, "domain=other": 2, "camera=a": 3, "camera=b": 1, "camera=c": 1, "place=in": 1,
        "place=out": 1,
    }  # fmt: skip


def test_what_does_not_belong_together_is_refused_with_every_reason() -> None:
    images = torch.rand(2, 3, 4, 4)
    strange = array_dataset(images, np.array([0, 1]), {"domain": ["x", "y"]}, ("cat", "dog"))
    with pytest.raises(InvalidDataset) as caught:
        join_domains(OWN, strange)
    assert [reason.split(":")[0].split(",")[0] for reason in caught.value.reasons] == [
        "classes differ", "a column is named domain", "images differ in size",
    ]  # fmt: skip


def test_the_other_domain_has_its_own_loss_and_distance() -> None:
    own = grey_dataset([0.1, 0.2, 0.8, 0.9] * 20)
    other = grey_dataset([0.45, 0.55] * 20)
    both = join_domains(own, other)
    case = case_of(SeesMeanBrightness(0.6), SeesMeanBrightness(0.5), own)
    case.dataset = both
    nothing = {name: () for name, value in DomainShift().model_dump().items() if isinstance(value, tuple)}
    check = DomainShift(**nothing, other="domain=other")
    found = {reading.metric: reading.outcome for reading in check.measure(case)}
    assert found["drop.other"].value == 0.5
    assert found["mmd.other"].low > 0 and found["mmd_p_value.other"].value < 0.05


def test_a_description_names_its_other_domain(tmp_path: Path) -> None:
    own, other = data_in(tmp_path / "own", 8), data_in(tmp_path / "other", 6, seed=2)
    description = own / "both.yaml"
    description.write_text((own / "dataset.yaml").read_text() + "other_domain: ../other\n")
    both = DatasetReaders().open(description)
    assert (both.ref.images, both.slices.names[1:3]) == (14, ("domain=own", "domain=other"))
    assert both.ref.digest not in {DatasetReaders().open(one).ref.digest for one in (own, other)}
    (other / "dataset.yaml").write_text((other / "dataset.yaml").read_text() + "other_domain: ../own\n")
    assert [both.index_of(both.name_of(number)) for number in (0, 7, 8, 13)] == [0, 7, 8, 13]
    with pytest.raises(InvalidDataset, match="two are compared"):
        DatasetReaders().open(description)
