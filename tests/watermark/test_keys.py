import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from auditsvc.errors import InvalidInput
from auditsvc.records import digest_of
from auditsvc.watermark import Payload, derive_seed, derive_subkeys, weights_digest
from auditsvc.watermark.watermark_keys import LANES, SLOTS, all_subkeys, carrier, lanes

ONE, OTHER = digest_of(b"one"), digest_of(b"other")


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_a_payload_is_read_back_from_its_signs(release, recipient):
    payload = Payload(release, recipient)
    assert Payload.from_signs(payload.signs) == payload


@given(st.integers(0, 2**32 - 1), st.integers(0, SLOTS - 1))
def test_a_payload_with_one_wrong_bit_is_not_read(release, bit):
    signs = Payload(release, 3).signs
    signs[bit] *= -1
    assert Payload.from_signs(signs) is None


def test_numbers_that_do_not_fit_a_payload_are_refused():
    for release, recipient in ((2**32, 0), (0, 2**16), (-1, 0)):
        with pytest.raises(InvalidInput):
            Payload(release, recipient)


def test_model_release_and_recipient_each_change_the_seed():
    master = bytes(range(32))
    seeds = {
        derive_seed(master, unmarked, release, recipient)
        for unmarked in (ONE, OTHER)
        for release in ("a", "b")
        for recipient in ("", "a")
    }
    assert len(seeds) == 8
    assert derive_seed(master, ONE, "a|b", "c") != derive_seed(master, ONE, "a", "b|c")


def test_a_short_master_secret_is_refused():
    with pytest.raises(InvalidInput, match="32 bytes"):
        derive_seed(bytes(31), ONE, "a")


def test_signs_never_change_between_versions():
    key = carrier(all_subkeys(bytes(range(32))), ONE, "conv.weight", 1000)
    assert hashlib.sha256(key.signs.tobytes() + key.slots.tobytes()).hexdigest() == (
        "0eae20b25e7bd8476b0ad927adb7f2c7ab59e85d02b306a9941b2f7ce1271434"
    )


def test_every_weight_belongs_to_one_of_sixteen_keys_and_one_of_64_slots():
    keys = dict(enumerate(derive_subkeys(bytes(32))))
    whole = carrier(keys, ONE, "w", 64_000)
    assert set(np.unique(whole.signs)) == {-1.0, 1.0}
    assert np.bincount(whole.slots, minlength=SLOTS).min() > 800
    assert np.bincount(lanes(ONE, "w", 64_000), minlength=LANES).min() > 3700
    parts = [carrier({lane: key}, ONE, "w", 64_000) for lane, key in keys.items()]
    assert np.array_equal(sum(part.signs for part in parts), whole.signs)


def test_signs_change_with_key_model_and_layer():
    base = carrier(all_subkeys(bytes(32)), ONE, "w", 10_000).signs
    for other in (
        carrier(all_subkeys(bytes(31) + b"\1"), ONE, "w", 10_000),
        carrier(all_subkeys(bytes(32)), OTHER, "w", 10_000),
        carrier(all_subkeys(bytes(32)), ONE, "v", 10_000),
    ):
        assert abs(float(base @ other.signs)) < 500  # five standard deviations


def test_the_digest_of_weights_is_that_of_their_plain_file(tmp_path):
    weights = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2, dtype=torch.float16)}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "w.safetensors")
    assert weights_digest(weights) == digest_of((tmp_path / "w.safetensors").read_bytes())
    assert weights_digest(dict(reversed(weights.items()))) == weights_digest(weights)
