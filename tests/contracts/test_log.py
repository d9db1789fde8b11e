"""What every log keeps: a Merkle tree as RFC 6962 has it, and proofs that a stranger can check."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from auditsvc.errors import NotFound
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import digest_of
from tests.contracts.conftest import Both
from tests.contracts.sample import a_candidate, a_digest

PUBLISHED = {
    "": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "00": "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "10": "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "2021": "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "3031": "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "40414243": "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "5051525354555657": "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "606162636465666768696a6b6c6d6e6f": "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
"""Leaves, and the root after each: the test vectors of google/certificate-transparency (merkle_tree_test.cc)."""


def test_roots_are_the_published_ones(ledger: Both) -> None:
    assert ledger.root(0).hex() == hashlib.sha256().hexdigest()
    for number, (leaf, root) in enumerate(PUBLISHED.items()):
        assert ledger.append_leaf(bytes.fromhex(leaf)) == number
        assert ledger.root(number + 1).hex() == root
    assert [ledger.root(size + 1).hex() for size in range(8)] == list(PUBLISHED.values())


def test_every_proof_of_a_small_tree_holds(ledger: Both) -> None:
    leaves = [f"leaf {number}".encode() for number in range(21)]
    for leaf in leaves:
        ledger.append_leaf(leaf)
    roots = [_root(leaves[:size]) for size in range(22)]
    assert [ledger.root(size) for size in range(22)] == roots
    for new in (1, 2, 7, 8, 13, 16, 21):
        for old in range(new + 1):
            assert merkle_log.continues(old, new, roots[old], roots[new], ledger.consistency(old, new))
        for index in range(new):
            path = ledger.inclusion(index, new)
            assert merkle_log.includes(merkle_log.leaf_hash(leaves[index]), index, new, path, roots[new])


def test_the_same_bytes_keep_their_index(ledger: Both) -> None:
    assert [ledger.append_leaf(data) for data in (b"one", b"two", b"one")] == [0, 1, 0]
    assert ledger.leaf_index(digest_of(b"two")) == 1
    assert ledger.size() == 2


def test_the_bytes_of_an_event_keep_their_index_too(ledger: Both) -> None:
    ledger.append(a_candidate(1), a_candidate(2), actor="ann")
    assert ledger.append_leaf(ledger.leaf(1)) == 1
    assert ledger.leaf_index(a_candidate(2).digest) == 1


def test_the_log_speaks_only_of_what_it_holds(ledger: Both) -> None:
    ledger.append_leaf(b"one")
    for ask in (
        lambda: ledger.leaf_index(a_digest(0)),
        lambda: ledger.leaf(1),
        lambda: ledger.root(2),
        lambda: ledger.root(-1),
        lambda: ledger.inclusion(1, 1),
        lambda: ledger.inclusion(-1, 1),
        lambda: ledger.inclusion(0, 2),
        lambda: ledger.consistency(1, 2),
        lambda: ledger.consistency(1, 0),
    ):
        with pytest.raises(NotFound):
            ask()


def _root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + _root(leaves[:half]) + _root(leaves[half:])).digest()
