"""What licences permit together, and what is left for a person."""

from __future__ import annotations

import pytest

from auditsvc.records.licences import permissions, reviewed


@pytest.mark.parametrize(
    ("expression", "commercial", "alike"),
    [("MIT", True, False), ("cc0-1.0", True, False), ("CC-BY-NC-4.0", False, False), ("CC-BY-NC-SA-3.0", False, True),
     ("CC-BY-NC-4.0 OR MIT", True, False), ("MIT AND CC-BY-NC-4.0", False, False), ("GPL-3.0-or-later", True, True),
     ("(CC-BY-NC-4.0 OR Apache-2.0) AND CC-BY-SA-4.0", True, True),
     ("GPL-2.0-only WITH Classpath-exception-2.0", True, True),
     ("LicenseRef-ours OR MIT", True, False)],
)  # fmt: skip
def test_an_expression_permits_what_its_parts_do(expression, commercial, alike):
    found = permissions(expression)
    assert (found.commercial, found.share_alike) == (commercial, alike)


@pytest.mark.parametrize(
    "expression",
    ["", "Images CC BY-SA 3.0; writer metadata BSD-3-Clause", "MIT AND", "AND MIT", "(MIT", "MIT)", "MIT MIT",
     "MIT WITH", "LicenseRef-ours", "LicenseRef-ours AND MIT", "not stated", "CC-BY-9.0", "MIT OR OR MIT", "()"],
)  # fmt: skip
def test_what_is_no_expression_or_not_listed_is_unknown(expression):
    assert permissions(expression) is None


def test_a_conflict_names_what_it_is_of_and_the_use_decides():
    licences = {"parent net": "Apache-2.0", "faces (calibration of the candidate)": "CC-BY-NC-4.0"}
    found = reviewed(licences, "commercial")
    assert found.conflicts == (
        "faces (calibration of the candidate) is under CC-BY-NC-4.0, which permits no commercial use",
    )
    other = reviewed(licences, "non-commercial")
    assert other.conflicts == () and other.duties == (
        "attribution for parent net, faces (calibration of the candidate)",
    )


def test_no_derivatives_two_share_alike_licences_and_unknown_ones_are_told_apart():
    found = reviewed({"a": "CC-BY-ND-4.0", "b": "CC-BY-SA-4.0", "c": "GPL-3.0-only", "d": "our own"}, "non-commercial")
    assert len(found.conflicts) == 2 and "no derived works" in found.conflicts[0]
    assert "CC-BY-SA-4.0 and GPL-3.0-only each ask" in found.conflicts[1] and found.open == ("d: our own",)
