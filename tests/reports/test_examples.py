"""The shipped examples are what this code writes."""

from __future__ import annotations

import pytest

from tests.reports.examples import FOLDER, KEPT, example_files


@pytest.mark.parametrize("name", KEPT)
def test_the_examples_are_what_this_code_writes(name: str) -> None:
    """The PDF is left out: its bytes are Typst's, and another version of it may write others."""
    forms = tuple(form for form in KEPT[name] if form != "pdf")
    differ = [path.name for path, data in example_files(name, forms).items() if path.read_bytes() != data]
    assert differ == [], "run python -m tests.reports.examples"


def test_no_example_is_left_over() -> None:
    wanted = {
        path for name, forms in KEPT.items() for path in example_files(name, tuple(f for f in forms if f != "pdf"))
    }
    found = {
        path for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pdf" and path.name != "README.md"
    }
    assert found == wanted
