"""Pseudo-candidates of a parent are paid for once: what a search found in them is in the ledger."""

from __future__ import annotations

from auditsvc.records.evidence import NullDraws
from auditsvc.services.measurement import StoredDraws
from tests.services.line import ports_in


def test_the_longest_series_is_found_by_the_next_audit(tmp_path):
    ctx = ports_in(tmp_path)
    first = StoredDraws(ctx)
    assert first["patch|a"] == ()
    first["patch|a"] = (0.1, 0.2)
    first["patch|a"] = (0.1, 0.2, 0.3)
    later = StoredDraws(ctx)
    assert later["patch|a"] == (0.1, 0.2, 0.3) and later["patch|b"] == ()
    later["patch|a"] = (0.1,)
    assert StoredDraws(ctx)["patch|a"] == (0.1, 0.2, 0.3)
    assert len(NullDraws.parse(NullDraws(search="sha256:" + "0" * 64, draws=(0.5,)).canonical()).draws) == 1
