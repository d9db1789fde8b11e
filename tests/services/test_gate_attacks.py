"""Attacks of ``tests.bench.gate_attacks`` that need no further pruning; their parts have quick tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.gate_attacks import ATTACKS, run_attacks

CHOSEN = (
    "policy-of-the-same-name",
    "two-policies-of-one-version",
    "later-audit-flips-the-release",
    "registry-version-made-anew",
    "revocation-hidden-in-the-database",
    "files-for-runtimes-that-are-not-proven",
)


@pytest.mark.slow
def test_attacks_are_refused(tmp_path: Path) -> None:
    assert set(CHOSEN) <= set(ATTACKS)
    assert run_attacks(tmp_path, CHOSEN) == {"attacks": 6, "refused": 6, "through": []}
