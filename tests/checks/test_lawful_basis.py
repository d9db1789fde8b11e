"""A stated basis is repeated; none is unmeasured, and it is part of what the data set is."""

from __future__ import annotations

import dataclasses

import pytest

from auditsvc.checks.lawful_basis import LawfulBasis
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.records import Measured
from tests.fakes.models import SeesMeanBrightness, case_of, grey_dataset
from tests.services.line import data_in


@pytest.mark.parametrize("basis", [None, "consent, kept by the clinic"])
def test_the_stated_basis_is_the_reading(basis):
    dataset = grey_dataset([0.2, 0.8])
    dataset = dataclasses.replace(dataset, ref=dataset.ref.model_copy(update={"lawful_basis": basis}))
    (found,) = LawfulBasis().measure(case_of(SeesMeanBrightness(), SeesMeanBrightness(), dataset))
    assert (isinstance(found.outcome, Measured) and found.outcome.which) == (basis or False)
    assert basis or "`lawful_basis` in dataset.yaml" in found.outcome.reason


def test_a_basis_in_the_description_reaches_the_reference_and_its_digest(tmp_path):
    folder = data_in(tmp_path / "data")
    before = DatasetReaders().open(folder).ref
    with (folder / "dataset.yaml").open("a") as stream:
        stream.write("lawful_basis: contract\n")
    after = DatasetReaders().open(folder).ref
    assert (before.lawful_basis, after.lawful_basis) == (None, "contract") and before.digest != after.digest
