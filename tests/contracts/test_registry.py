"""What every registry keeps: a digest has one version, lineage is checked, an alias is where it was put."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from auditsvc.errors import Conflict, NotFound
from auditsvc.ports import Placed, Registry
from tests.contracts.sample import WEIGHTS, a_candidate, a_parent

_numbers = itertools.count()


@pytest.fixture
def model() -> str:
    return f"net-{next(_numbers)}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def test_a_registered_version_names_its_digest(registry: Registry, model: str, files: Path) -> None:
    version = registry.register_parent(a_parent(model), files)
    assert registry.registered(model, version).digest == a_parent(model).digest
    with pytest.raises(NotFound):
        registry.registered(model, "99")


def test_the_same_digest_has_the_same_version(registry: Registry, model: str, files: Path) -> None:
    assert [registry.register_parent(a_parent(model), files) for _ in range(2)] == ["1", "1"]
    one, two = a_candidate(1, model), a_candidate(2, model)
    assert [registry.register_candidate(which, files, "1") for which in (one, two, one)] == ["2", "3", "2"]


def test_a_candidate_needs_its_own_parent(registry: Registry, model: str, files: Path) -> None:
    with pytest.raises(NotFound):
        registry.register_candidate(a_candidate(1, model), files, "1")
    registry.register_parent(a_parent(model), files)
    registry.register_candidate(a_candidate(1, model), files, "1")
    with pytest.raises(Conflict):
        registry.register_candidate(a_candidate(2, model), files, "2")


def test_an_alias_is_where_it_was_put(registry: Registry, model: str, files: Path) -> None:
    assert registry.aliased(model, "approved") is None
    registry.register_parent(a_parent(model), files)
    registry.register_candidate(a_candidate(1, model), files, "1")
    assert registry.aliased(model, "approved") is None
    for version in ("1", "2", "2"):
        registry.move_alias(model, "approved", version)
        assert registry.aliased(model, "approved") == version
    for _ in range(2):
        registry.drop_alias(model, "approved")
        assert registry.aliased(model, "approved") is None


def test_the_files_of_a_version_come_back(registry: Registry, model: str, files: Path, tmp_path: Path) -> None:
    registry.register_parent(a_parent(model), files)
    (tmp_path / "got").mkdir()
    found = registry.checkout(model, "1", tmp_path / "got")
    assert (found / "model.safetensors").read_bytes() == WEIGHTS
    with pytest.raises(NotFound):
        registry.checkout(model, "2", tmp_path / "got")


def test_what_somebody_pointed_at_or_staged_is_seen(registry: Registry, model: str, files: Path) -> None:
    registry.register_parent(a_parent(model), files)
    registry.register_candidate(a_candidate(1, model), files, "1")
    assert model not in registry.placed()
    registry.move_alias(model, "champion", "1")
    registry.set_stage(model, "2", "Production")
    assert registry.placed()[model] == Placed({"champion": "1"}, {"Production": "2"})
    registry.set_stage(model, "2", None)
    assert registry.placed()[model] == Placed({"champion": "1"})
    with pytest.raises(NotFound):
        registry.set_stage(model, "9", "Production")


def test_what_is_not_there_is_not_found(registry: Registry, model: str, files: Path) -> None:
    with pytest.raises(NotFound):
        registry.move_alias(model, "approved", "1")
    registry.register_parent(a_parent(model), files)
    with pytest.raises(NotFound):
        registry.move_alias(model, "approved", "2")
    with pytest.raises(NotFound):
        registry.tag(model, "2", {"auditsvc.decision": "approved"})
    registry.tag(model, "1", {"auditsvc.decision": "approved"})
