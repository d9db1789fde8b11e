from __future__ import annotations

import pytest

from auditsvc.records import WatermarkKeyRecord
from auditsvc.services.candidates import prune_candidate, register_parent, submit
from tests.services.line import FACTS, GOOD, data_in, parent_in, ports_in


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("line")
    return {
        "parent": parent_in(base / "parent"),
        "audited": data_in(base / "audited"),
        "calibration": data_in(base / "calibration", 30, seed=1),
    }


@pytest.fixture(scope="session")
def made_once(folders, tmp_path_factory):
    """One candidate, made and submitted; session-wide, because a clean process takes seconds to start."""
    ctx = ports_in(tmp_path_factory.mktemp("store"))
    parent, version = register_parent(ctx, folders["parent"], FACTS)
    candidate = prune_candidate(ctx, parent, GOOD, ctx.datasets.open(folders["calibration"]))
    return ctx, parent, version, candidate, submit(ctx, candidate, version, "sue")


@pytest.fixture
def line(made_once, folders, tmp_path):
    """A fresh store with the same parent, candidate and submission in it."""
    return fresh_line(made_once, folders, tmp_path)


@pytest.fixture
def lines(made_once, folders, tmp_path):
    """As many such stores as are wanted, by name."""
    return lambda name: fresh_line(made_once, folders, tmp_path / name)


def fresh_line(made_once, folders, folder):
    old, parent, version, candidate, _ = made_once
    ctx = ports_in(folder)
    register_parent(ctx, folders["parent"], FACTS)
    for file in candidate.files:
        ctx.blobs.put(old.blobs.read(file.digest))
    for copy in old.ledger.find(WatermarkKeyRecord, candidate.mark.commitment):
        ctx.ledger.append(copy, actor="test")
        for digest in (copy.original, copy.queries):
            ctx.blobs.put(old.blobs.read(digest))
    ctx.ledger.append(candidate.recipe, candidate, actor="test")
    submit(ctx, candidate, version, "sue")
    return ctx, parent, candidate, ctx.datasets.open(folders["audited"])
