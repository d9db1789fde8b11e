import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.errors import InvalidInput
from auditsvc.records import digest_of
from auditsvc.watermark import (
    Unmarked,
    decrypt_queries,
    decrypt_unmarked,
    encrypt_queries,
    encrypt_unmarked,
    prepare_queries,
    weights_digest,
)
from tests.watermark.conftest import MASTER, PAYLOAD

WEIGHTS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "conv.bias": torch.ones(2)}
DIGEST = weights_digest(WEIGHTS)
LOCKED = encrypt_unmarked(MASTER, DIGEST, Unmarked(WEIGHTS))


def test_the_unmarked_candidate_comes_back_with_its_wiring(marked):
    data = encrypt_unmarked(MASTER, marked.unmarked, Unmarked(marked.original, marked.wiring))
    back = decrypt_unmarked(MASTER, marked.unmarked, data)
    assert back.wiring == marked.wiring
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in marked.original.items())


def test_nothing_of_the_weights_is_in_the_file():
    assert WEIGHTS["conv.weight"].numpy().tobytes()[:16] not in LOCKED
    assert b"conv" not in LOCKED


@settings(max_examples=40)
@given(st.integers(0, len(LOCKED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position, change):
    data = bytearray(LOCKED)
    data[position] ^= change
    with pytest.raises(InvalidInput):
        decrypt_unmarked(MASTER, DIGEST, bytes(data))


def test_another_master_secret_or_candidate_is_refused():
    with pytest.raises(InvalidInput, match="master secret"):
        decrypt_unmarked(bytes(32), DIGEST, LOCKED)
    with pytest.raises(InvalidInput, match="can't be decrypted"):
        decrypt_unmarked(MASTER, digest_of(b"other"), LOCKED)


def test_weights_under_another_digest_are_not_locked_away():
    with pytest.raises(InvalidInput, match="digest"):
        encrypt_unmarked(MASTER, digest_of(b"other"), Unmarked(WEIGHTS))


def test_queries_are_kept_as_a_secret_that_the_mark_commits_to(marked):
    queries = prepare_queries(
        marked.net, marked.net, marked.images[200:], seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD
    )
    digest, data = encrypt_queries(MASTER, queries)
    assert digest == queries.digest
    assert queries.as_bytes()[200:216] not in data
    assert decrypt_queries(MASTER, digest, data).digest == digest
    with pytest.raises(InvalidInput, match="master secret"):
        decrypt_queries(bytes(32), digest, data)
    with pytest.raises(InvalidInput, match="not the encrypted file"):
        decrypt_queries(MASTER, digest, LOCKED)


@pytest.mark.slow
def test_queries_can_be_handed_out_as_picture_files(marked):
    queries = prepare_queries(
        marked.net, marked.net, marked.images[200:], seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD,
        count=20, halfway=True,
    )  # fmt: skip
    assert torch.equal((queries.images * 255).round() / 255, queries.images)
