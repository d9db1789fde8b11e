"""Larger packs of real data, which lie beside the checkout on some machines and nowhere on others."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pack(name: str) -> Path:
    """The folder of a pack; the test skips, and says so, where it is not there."""
    found = next(iter(ROOT.parent.glob(f"*/data/{name}")), None)
    if found is None:
        pytest.skip(f"the data pack {name} is not on this machine")
    return found
