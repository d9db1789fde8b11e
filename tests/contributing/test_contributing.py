"""Every worked example of CONTRIBUTING.md works as written, and costs as few files as promised."""

from __future__ import annotations

import pytest

from tests.contributing.examples import applied, examples, in_copy, touched

MOST_FILES = {"check": 1, "task": 1, "dataset_reader": 1, "framework": 1, "resource": 4, "job_kind": 4}


def test_there_is_an_example_for_each_extension() -> None:
    assert set(examples()) == set(MOST_FILES)


@pytest.mark.parametrize("name", sorted(MOST_FILES))
def test_an_extension_costs_as_few_files_as_promised(name: str) -> None:
    assert 1 <= len(touched(examples()[name])) <= MOST_FILES[name]


@pytest.mark.parametrize("name", sorted(MOST_FILES))
def test_the_diffs_of_an_example_apply(name: str) -> None:
    with applied(examples()[name]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MOST_FILES))
def test_an_example_works_as_written(name: str) -> None:
    in_copy(examples()[name])
