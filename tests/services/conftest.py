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
    ports = ports_in(tmp_path_factory.mktemp("store"))
    parent, version = register_parent(folders["parent"], FACTS, ports)
    candidate = prune_candidate(parent, GOOD, ports.datasets.open(folders["calibration"]), ports)
    return ports, parent, version, candidate, submit(candidate, version, "sue", ports)


@pytest.fixture
def line(made_once, folders, tmp_path):
    """A fresh store with the same parent, candidate and submission in it."""
    old, parent, version, candidate, _ = made_once
    ports = ports_in(tmp_path)
    register_parent(folders["parent"], FACTS, ports)
    for file in candidate.files:
        ports.blobs.put(old.blobs.read(file.digest))
    for copy in old.ledger.find(WatermarkKeyRecord, candidate.mark.commitment):
        ports.ledger.append(copy, actor="test")
        for digest in (copy.original, copy.queries):
            ports.blobs.put(old.blobs.read(digest))
    ports.ledger.append(candidate.recipe, candidate, actor="test")
    submit(candidate, version, "sue", ports)
    return ports, parent, candidate, ports.datasets.open(folders["audited"])
