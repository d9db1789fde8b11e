"""The Merkle tree gives the published roots and proofs, and takes no other proof."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.provenance.formats.merkle_log import continues, includes, leaf_hash
from tests.fakes.log import MemoryLog

# The leaves and hashes of Certificate Transparency's own tests (google/certificate-transparency, merkletree).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
PROOFS = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def log_of(size: int) -> MemoryLog:
    return MemoryLog([b"leaf %d" % index for index in range(size)])


def test_the_roots_are_those_of_certificate_transparency() -> None:
    log = MemoryLog(LEAVES)
    assert [log.root(size).hex() for size in range(9)] == ROOTS


def test_the_proofs_are_those_of_certificate_transparency() -> None:
    log = MemoryLog(LEAVES)
    assert {at: [node.hex() for node in log.inclusion(*at)] for at in PATHS} == PATHS
    assert {at: [node.hex() for node in log.consistency(*at)] for at in PROOFS} == PROOFS


def test_every_proof_of_every_small_tree_holds() -> None:
    log = log_of(40)
    for size in range(1, 41):
        for index in range(size):
            assert includes(leaf_hash(log.leaves[index]), index, size, log.inclusion(index, size), log.root(size))
        for old in range(size + 1):
            assert continues(old, size, log.root(old), log.root(size), log.consistency(old, size))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_inclusion_proof_never_holds(data: st.DataObject) -> None:
    log = log_of(50)
    size = data.draw(st.integers(2, 50))
    index = data.draw(st.integers(0, size - 1))
    path = list(log.inclusion(index, size))
    leaf, root = leaf_hash(log.leaves[index]), log.root(size)
    change = data.draw(st.sampled_from(["flip", "drop", "add", "index", "leaf", "root"]))
    place = data.draw(st.integers(0, len(path) - 1))
    if change == "flip":
        path[place] = bytes([path[place][0] ^ 1]) + path[place][1:]
    elif change == "drop":
        del path[place]
    elif change == "add":
        path.insert(place, data.draw(st.binary(min_size=32, max_size=32)))
    elif change == "index":
        index = data.draw(st.integers(-2, 60).filter(lambda other: other != index))
    elif change == "leaf":
        leaf = leaf_hash(b"another")
    else:
        root = log.root(size - 1)
    assert not includes(leaf, index, size, path, root)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_consistency_proof_never_holds(data: st.DataObject) -> None:
    log = log_of(50)
    new = data.draw(st.integers(2, 50))
    old = data.draw(st.integers(1, new - 1))
    proof = list(log.consistency(old, new))
    place = data.draw(st.integers(0, len(proof) - 1))
    change = data.draw(st.sampled_from(["flip", "drop", "add", "old root", "new root"]))
    old_root, new_root = log.root(old), log.root(new)
    if change == "flip":
        proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    elif change == "drop":
        del proof[place]
    elif change == "add":
        proof.insert(place, data.draw(st.binary(min_size=32, max_size=32)))
    elif change == "old root":
        old_root = leaf_hash(b"another")
    else:
        new_root = leaf_hash(b"another")
    assert not continues(old, new, old_root, new_root, proof)


def test_a_tree_does_not_shrink() -> None:
    log = log_of(8)
    assert not continues(8, 5, log.root(8), log.root(5), ())
    assert not continues(5, 5, log.root(5), log.root(4), ())
