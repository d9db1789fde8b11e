"""Whatever is done to a sealed release, it is never VALID."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.provenance import TrustRoot, sign_release, verify
from tests.provenance.sample import AT, FILES, house, sealing, write

NAMES = st.text("abcxyzäß.-_", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))


@pytest.fixture(scope="module")
def house_folder(house_path: Path) -> Path:
    folder = house_path / "sealed"
    write(folder / "release", {**FILES, "labels/en.json": b'["a","b"]'})
    keys, log = house(folder)
    sign_release(folder, sealing({**FILES, "labels/en.json": b'["a","b"]'}), keys=keys, log=log, at=AT)
    return folder


def verdict(folder: Path, keys: Path, trust: str) -> str:
    root = TrustRoot.load(keys / trust)
    return verify(folder / "release", folder / "attest", trust=root, at=AT).verdict


@pytest.mark.parametrize("trust", ["trust-policy.json", "release.pub"])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_changed_release_is_never_valid(house_folder: Path, trust: str, data: st.DataObject) -> None:
    copy = house_folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    for part in ("release", "attest"):
        shutil.copytree(house_folder / part, copy / part)
    assert verdict(copy, house_folder / "keys", trust) == "VALID"
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    victim = data.draw(st.sampled_from(files))
    content = bytearray(victim.read_bytes())
    change = data.draw(st.sampled_from(["flip", "flip", "flip", "cut", "append", "remove", "rename", "add", "swap"]))
    if change == "flip":
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        victim.write_bytes(content)
    elif change == "cut":
        victim.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif change == "append":
        victim.write_bytes(content + data.draw(st.binary(min_size=1, max_size=8)))
    elif change == "remove":
        victim.unlink()
    elif change == "rename":
        victim.rename(victim.with_name(data.draw(NAMES.filter(lambda name: not (victim.parent / name).exists()))))
    elif change == "add":
        extra = victim.with_name(data.draw(NAMES.filter(lambda name: not (victim.parent / name).exists())))
        extra.write_bytes(data.draw(st.binary(max_size=8)))
    else:
        other = data.draw(st.sampled_from([path for path in files if path != victim]))
        content = other.read_bytes()
        other.write_bytes(victim.read_bytes())
        victim.write_bytes(content)
    assert verdict(copy, house_folder / "keys", trust) == "INVALID"


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["trust-policy.json", "release.pub"])
def test_no_flipped_bit_goes_unseen_in_any_part_of_any_file(house_folder: Path, trust: str) -> None:
    root = TrustRoot.load(house_folder / "keys" / trust)
    for path in sorted(path for path in house_folder.glob("[ra]*/**/*") if path.is_file()):
        content = path.read_bytes()
        try:
            for place in range(0, len(content), 11):
                flipped = bytes([content[place] ^ (1 << place % 8)])
                path.write_bytes(content[:place] + flipped + content[place + 1 :])
                found = verify(house_folder / "release", house_folder / "attest", trust=root, at=AT)
                assert found.verdict == "INVALID", (path.name, place)
        finally:
            path.write_bytes(content)
