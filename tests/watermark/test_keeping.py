import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.errors import InvalidInput
from auditsvc.records import digest_of
from auditsvc.watermark import Unmarked, lock, unlock, weights_digest
from tests.watermark.conftest import MASTER

WEIGHTS = {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "conv.bias": torch.ones(2)}
DIGEST = weights_digest(WEIGHTS)
LOCKED = lock(MASTER, DIGEST, Unmarked(WEIGHTS))


def test_the_unmarked_candidate_comes_back_with_its_wiring(marked):
    data = lock(MASTER, marked.unmarked, Unmarked(marked.original, marked.wiring))
    back = unlock(MASTER, marked.unmarked, data)
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
        unlock(MASTER, DIGEST, bytes(data))


def test_another_master_secret_or_candidate_is_refused():
    with pytest.raises(InvalidInput, match="master secret"):
        unlock(bytes(32), DIGEST, LOCKED)
    with pytest.raises(InvalidInput, match="can't be decrypted"):
        unlock(MASTER, digest_of(b"other"), LOCKED)


def test_weights_under_another_digest_are_not_locked_away():
    with pytest.raises(InvalidInput, match="digest"):
        lock(MASTER, digest_of(b"other"), Unmarked(WEIGHTS))
