"""The reports in ``reports/examples``: ``python -m tests.reports.examples`` writes them anew.

They are made from the sample records of the tests, so that anybody gets the same bytes; a test compares them.
"""

from __future__ import annotations

from pathlib import Path

from auditsvc.compliance.render import FORMATS, render_files
from tests.compliance import sample

FOLDER = Path(__file__).parents[2] / "reports" / "examples"
WANTED = {"rejected": ("html",), "released": tuple(name for name in FORMATS if name != "json")}
"""Forms of each sample; the JSON is inside the PDF."""


def example_files(name: str, forms: tuple[str, ...]) -> dict[Path, bytes]:
    """The files of one example by path."""
    folder = FOLDER / f"face-attribute-{name}"
    return {folder / file: data for file, data in render_files(sample.report(name), forms).items()}


def main() -> None:
    """Write every example."""
    for name, forms in WANTED.items():
        for path, data in example_files(name, forms).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
