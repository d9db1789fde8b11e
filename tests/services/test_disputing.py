"""One sub-key is enough for an arbiter who believes only what was signed and logged before."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditsvc.errors import InvalidInput, NotVerified
from auditsvc.models import WEIGHTS
from auditsvc.provenance import TrustRoot
from auditsvc.records import Submission
from auditsvc.services.release import release_folder
from auditsvc.services.tracing import ORIGINAL, REVEAL, arbitrate, reveal
from auditsvc.services.watermarking import find_watermark_key, seed_of
from auditsvc.watermark import derive_subkeys
from tests.services.test_sealed import released


@pytest.fixture
def dispute(line, tmp_path):
    """A released candidate, and what its owner shows: sub-key 3."""
    ctx, _, candidate, _ = line
    released(ctx, line)
    (submission,) = ctx.ledger.find(Submission, candidate.digest)
    reveal(ctx, candidate, 3, tmp_path / "shown")
    return ctx, candidate, release_folder(ctx, submission), tmp_path / "shown"


def judged(dispute, found=None):
    ctx, _, folder, shown = dispute
    trust = TrustRoot.of_keys(ctx.keys)
    return arbitrate(found or folder / "release" / WEIGHTS, shown, folder, trust, ctx.clock.now())


def test_the_arbiter_finds_the_mark_with_one_sixteenth_of_the_weights(dispute):
    found = judged(dispute)
    assert found.z > 4
    assert 0 < found.weights < 2 * kept_weights(dispute) / 16
    assert found.logged_as >= 0


def kept_weights(dispute):
    return sum(tensor.numel() for tensor in load_file(dispute[3] / ORIGINAL).values())


def test_a_stranger_carries_nothing(dispute, tmp_path):
    chance = torch.Generator().manual_seed(0)
    weights = load_file(dispute[2] / "release" / WEIGHTS)
    drawn = {
        name: torch.randn(tensor.shape, generator=chance) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    save_file(drawn, tmp_path / "stranger.safetensors")
    assert judged(dispute, tmp_path / "stranger.safetensors").verdict == "NO EVIDENCE"


def test_the_other_fifteen_sub_keys_are_not_shown(dispute):
    ctx, candidate, _, shown = dispute
    told = (shown / REVEAL).read_text()
    keys = [key.hex() for key in derive_subkeys(seed_of(ctx, find_watermark_key(ctx, candidate.mark)))]
    assert [key in told for key in keys] == [lane == 3 for lane in range(16)]


def test_a_sub_key_or_an_original_that_was_not_committed_to_is_refused(dispute):
    _, _, _, shown = dispute
    told = json.loads((shown / REVEAL).read_text())
    (shown / REVEAL).write_text(json.dumps(told | {"subkey": bytes(32).hex()}))
    with pytest.raises(InvalidInput, match="commits to"):
        judged(dispute)
    (shown / REVEAL).write_text(json.dumps(told))
    weights = load_file(shown / ORIGINAL)
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1e-6}, shown / ORIGINAL)
    with pytest.raises(InvalidInput, match="digest"):
        judged(dispute)


def test_a_release_that_does_not_verify_commits_to_nothing(dispute):
    (dispute[2] / "release" / "LICENSE").write_text("changed")
    with pytest.raises(NotVerified, match="INVALID"):
        judged(dispute, dispute[2] / "release" / WEIGHTS)


def test_no_seventeenth_sub_key_and_no_folder_twice(dispute, tmp_path):
    ctx, candidate, _, shown = dispute
    with pytest.raises(InvalidInput, match="numbered 0 to 15"):
        reveal(ctx, candidate, 16, tmp_path / "more")
    with pytest.raises(InvalidInput, match="not empty"):
        reveal(ctx, candidate, 4, shown)
