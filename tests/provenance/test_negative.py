"""Every negative case is refused, for exactly the reason that it should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.provenance.cases import Case, all_cases

CASES = list(all_cases())


def test_all_64_numbers_have_a_case() -> None:
    assert sorted({item.number for item in CASES}) == list(range(1, 65))


@pytest.mark.parametrize("item", CASES, ids=lambda item: f"{item.number:02d} {item.title}")
def test_a_bad_release_is_refused_for_its_reason(tmp_path: Path, item: Case) -> None:
    if item.needs and not shutil.which(item.needs):
        pytest.skip(f"needs the command {item.needs}")
    found = item.run(tmp_path)
    assert (found.verdict, {step.code for step in found.reasons}) == (item.verdict, set(item.codes)), found.reasons
