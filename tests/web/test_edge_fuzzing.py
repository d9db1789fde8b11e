"""Parsers of foreign bytes answer with a value or an error of ours, in bounded time."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from auditsvc.errors import AuditError
from tests.web.edge_fuzzing import PIECES, examples, fuzz


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_changed_examples_crash_nothing() -> None:
    count, crashes, longest = fuzz(2.0)
    assert crashes == []
    assert count > 20
    assert longest < 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: repr(piece[:12]))
def test_a_hostile_piece_alone_is_refused_or_read(piece: bytes) -> None:
    for parse, _ in examples().values():
        for data in (piece, piece * 3):
            began = time.process_time()
            with suppress(AuditError):
                parse(data)
            assert time.process_time() - began < 2
