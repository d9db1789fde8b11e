"""No input makes a parser fail in another way than it says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.provenance.formats.dsse import Bundle
from tests.provenance.forge import Forge
from tests.provenance.fuzzing import feed, fuzz, mutate, targets

NAMES = ["bundle", "checkpoint", "json", "manifest", "metadata", "note", "note key", "pkcs11 uri", "recalls", "record"]
NAMES += ["release key", "signature", "summary", "tile", "trust policy", "witness request"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


def test_every_parser_is_fuzzed_and_takes_its_own_example() -> None:
    assert sorted(targets()) == NAMES
    taken = {name for name in NAMES if feed(name, targets()[name][1])}
    assert taken == set(NAMES) - {"signature"}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | st.integers().map(lambda seed: seed.to_bytes(40, "big", signed=True)))
def test_random_bytes_are_refused_in_words(name: str, data: bytes) -> None:
    feed(name, data)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_bent_examples_are_refused_in_words(name: str, seed: int) -> None:
    feed(name, mutate(targets()[name][1], random.Random(seed)))


@pytest.mark.parametrize("name", ["bundle", "manifest", "metadata", "recalls", "record", "summary", "trust policy"])
@settings(max_examples=60, deadline=None)
@given(value=VALUES, path=st.lists(st.integers(0, 10), max_size=5))
def test_any_value_in_any_place_is_refused_in_words(name: str, value: object, path: list[int]) -> None:
    document = json.loads(targets()[name][1])
    feed(name, json.dumps(put(document, path, value)).encode())


def put(document: object, path: list[int], value: object) -> object:
    """The document with this value somewhere in it."""
    here, key, parent = document, None, None
    for step in path:
        if isinstance(here, dict) and here:
            parent, key = here, sorted(here)[step % len(here)]
        elif isinstance(here, list) and here:
            parent, key = here, step % len(here)
        else:
            break
        here = parent[key]
    if parent is None:
        return value
    parent[key] = value
    return document


@pytest.fixture(scope="module")
def forge(house_path: Path) -> Forge:
    return Forge(house_path / "forge")


@pytest.mark.parametrize("name", ["oms", "provenance", "audit-accuracy", "vsa"])
@settings(max_examples=60, deadline=None)
@given(value=VALUES, path=st.lists(st.integers(0, 10), min_size=1, max_size=6))
def test_whatever_a_trusted_key_signs_is_judged_and_never_a_crash(
    forge: Forge, name: str, value: object, path: list[int]
) -> None:
    before = forge.path(name).read_bytes()
    statement = json.loads(Bundle.parse(before).payload)
    payload = json.dumps(put(statement, [1, *path] if path[0] % 4 else path, value)).encode()
    try:
        forge.store(name, payload)
        found = forge.verify()
    finally:
        forge.path(name).write_bytes(before)
    assert found.verdict == "INVALID" or name == "vsa"
    assert "VERIFIER_ERROR" not in {step.code for step in found.reasons}


@pytest.mark.slow
def test_many_bent_examples_are_refused_in_words() -> None:
    assert fuzz(30) > 10_000
