"""The fast way to canonical JSON gives the bytes of the reference, whatever it is given."""

from __future__ import annotations

import math

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditsvc.errors import InvalidInput
from auditsvc.records import canonical_json

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e-3, 1e-3),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.integers(-400, 400).map(lambda power: float(f"1e{power % 309}") if power >= 0 else float(f"1e{power}")),
)
TEXTS = st.text(max_size=12)
KEYS = st.one_of(st.text('abcXYZ09_é\ue000😀\ud7ff\uffff"\\', max_size=4), TEXTS)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=600, deadline=None)
@given(JSON)
@example({"b": 1.0, "a": [1e-7, -0.0, 1e16, 1e21, 5e-324, 0.1, 123456789012345680.0, 1e-4, 9.99e-5]})
@example({"\ue000": "\ue0001\ue000", "x": "\ue0001e-7\ue000", "\x7f": '\x00\x1f\x7f\u2028/"\\'})
def test_the_bytes_are_those_of_the_reference(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 2**53, -(2**53), "\ud800", {"\udfff": 1}, {1: 2}, {1, 2}]
)
def test_what_the_reference_refuses_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        canonical_json({"a": [value]})
