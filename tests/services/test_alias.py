"""No side doors: the alias is where the ledger says, whoever moved it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from auditsvc.errors import Conflict
from auditsvc.ports import Context, Placed
from auditsvc.records import AliasMove, RegistryFinding
from auditsvc.services.gate_query import query_gate
from auditsvc.services.registry import ALIAS, AliasDrift, clear_alias, reconcile, record_content, set_alias
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.web import sample

ABOUT = sample.released().digest


@pytest.fixture
def registry() -> MemoryRegistry:
    made = MemoryRegistry()
    sample.register(made)
    return made


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def ctx(registry: MemoryRegistry, clock: FixedClock, tmp_path: Path) -> Context:
    ledger = MemoryLedger()
    sample.fill(ledger)
    return Context(
        ledger=ledger,
        log=ledger,
        blobs=MemoryBlobs(),
        registry=registry,
        datasets=None,  # type: ignore[arg-type]
        keys=MemoryKeys(),
        clock=clock,
        progress=QuietProgress(),
        folder=tmp_path,
    )


def test_what_auditsvc_moves_itself_is_no_side_door(ctx: Context) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    seen, moves, _ = reconcile(ctx, {}, put_back=True)
    assert (seen["net"].aliases, moves) == ({ALIAS: "1"}, ())
    clear_alias(ctx, "net", "1", ABOUT)
    assert reconcile(ctx, seen, put_back=True) == ({}, (), {})


@pytest.mark.parametrize("by_hand", ["3", "2", None])
def test_an_alias_that_somebody_moved_is_put_back(
    ctx: Context, registry: MemoryRegistry, clock: FixedClock, by_hand: str | None
) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    clock.forward(minutes=2)
    if by_hand:
        registry.move_alias("net", ALIAS, by_hand)
    else:
        registry.drop_alias("net", ALIAS)
    seen, moves, _ = reconcile(ctx, {}, put_back=True)
    assert moves == (AliasDrift(model="net", what="alias", name=ALIAS, before="1", found=by_hand, put_back=True),)
    assert registry.aliased("net", ALIAS) == "1"
    assert reconcile(ctx, seen, put_back=True)[1] == ()


def test_without_putting_back_a_move_is_told_once(ctx: Context, registry: MemoryRegistry, clock: FixedClock) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    clock.forward(minutes=2)
    seen, *_ = reconcile(ctx, {}, put_back=False)
    registry.move_alias("net", ALIAS, "3")
    seen, moves, _ = reconcile(ctx, seen, put_back=False)
    assert [(move.found, move.put_back) for move in moves] == [("3", False)]
    assert reconcile(ctx, seen, put_back=False)[1] == ()
    assert registry.aliased("net", ALIAS) == "3"


def test_a_move_that_was_killed_half_way_is_finished_and_one_that_goes_on_is_left_alone(
    ctx: Context, registry: MemoryRegistry, clock: FixedClock
) -> None:
    ctx.ledger.append(
        AliasMove(model="net", alias=ALIAS, version="1", because=ABOUT, at=ctx.clock.now()), actor="auditsvc"
    )
    assert reconcile(ctx, {}, put_back=True)[1] == ()
    assert registry.aliased("net", ALIAS) is None
    clock.forward(minutes=2)
    reconcile(ctx, {}, put_back=True)
    assert registry.aliased("net", ALIAS) == "1"


@pytest.mark.parametrize(("version", "stays"), [("1", True), ("3", False), ("9", False)])
def test_a_store_from_before_keeps_an_alias_only_where_the_gate_says_yes(
    ctx: Context, registry: MemoryRegistry, version: str, stays: bool
) -> None:
    registry.aliases["net", ALIAS] = version
    reconcile(ctx, {}, put_back=True)
    assert (registry.aliased("net", ALIAS) == version) is stays


def test_other_names_are_watched_and_only_a_refused_version_leaves_production(
    ctx: Context, registry: MemoryRegistry
) -> None:
    seen: dict[str, Placed] = {"net": Placed()}
    registry.move_alias("net", "champion", "3")
    registry.set_stage("net", "1", "Production")
    seen, moves, _ = reconcile(ctx, seen, put_back=True)
    assert [(move.what, move.name, move.found, move.put_back) for move in moves] == [
        ("alias", "champion", "3", False),
        ("stage", "Production", "1", False),
    ]
    registry.set_stage("net", "3", "Production")
    seen, moves, _ = reconcile(ctx, seen, put_back=True)
    assert [(move.found, move.put_back) for move in moves] == [("3", True)]
    assert registry.stages == {}
    assert registry.aliased("net", "champion") == "3"


class DiesWhenAsked(MemoryRegistry):
    """The process is killed at the call that would change the alias, before or after it takes effect."""

    takes_effect = False

    def move_alias(self, model: str, alias: str, version: str) -> None:
        if self.takes_effect:
            super().move_alias(model, alias, version)
        raise KeyboardInterrupt

    def drop_alias(self, model: str, alias: str) -> None:
        if self.takes_effect:
            super().drop_alias(model, alias)
        raise KeyboardInterrupt


def _dying(ctx: Context, registry: MemoryRegistry, *, takes_effect: bool) -> Context:
    made = DiesWhenAsked()
    made.files = registry.files
    made.tags, made.aliases, made.takes_effect = registry.tags, registry.aliases, takes_effect
    return replace(ctx, registry=made)


@pytest.mark.parametrize("takes_effect", [False, True])
def test_where_the_alias_belongs_is_recorded_before_it_is_set(
    ctx: Context, registry: MemoryRegistry, clock: FixedClock, takes_effect: bool
) -> None:
    with pytest.raises(KeyboardInterrupt):
        set_alias(_dying(ctx, registry, takes_effect=takes_effect), "net", "1", ABOUT)
    assert [move.version for move in ctx.ledger.find(AliasMove, "net")] == ["1"]
    clock.forward(minutes=2)
    reconcile(ctx, {}, put_back=True)
    assert registry.aliased("net", ALIAS) == "1"


@pytest.mark.parametrize("takes_effect", [False, True])
def test_that_no_version_has_the_alias_is_recorded_before_it_is_cleared(
    ctx: Context, registry: MemoryRegistry, clock: FixedClock, takes_effect: bool
) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    with pytest.raises(KeyboardInterrupt):
        clear_alias(_dying(ctx, registry, takes_effect=takes_effect), "net", "1", ABOUT)
    assert [move.version for move in ctx.ledger.find(AliasMove, "net")] == ["1", None]
    clock.forward(minutes=2)
    reconcile(ctx, {}, put_back=True)
    assert registry.aliased("net", ALIAS) is None


def test_a_version_with_other_content_never_gets_the_alias(
    ctx: Context, registry: MemoryRegistry, clock: FixedClock
) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    clock.forward(minutes=2)
    registry.files["net", "1"] = {"model.safetensors": b"other weights"}
    with pytest.raises(Conflict, match=r"other files: model\.safetensors"):
        set_alias(ctx, "net", "1", ABOUT)
    assert record_content(ctx, "net", "1").fault == "the registry's version 1 of net has other files: model.safetensors"
    _, moves, faults = reconcile(ctx, {}, put_back=True)
    assert [(move.before, move.found, move.put_back) for move in moves] == [(None, "1", True)]
    assert (registry.aliased("net", ALIAS), faults) == (None, {})
    answer = query_gate(ctx.ledger, "net", "1")
    assert answer.answer == "inconclusive"
    assert answer.reasons == ("the registry's version 1 of net has other files: model.safetensors",)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda registry: registry.tags.pop(("net", "1")), "no version 1 of net"),
        (lambda registry: registry.tags["net", "1"].update({"auditsvc.digest": "sha256:0"}), "is sha256:0"),
        (lambda registry: registry.tags["net", "1"].clear(), "without a digest"),
        (lambda registry: registry.files["net", "1"].update({"model.onnx": b"more"}), "other files: model.onnx"),
        (lambda registry: registry.files["net", "1"].clear(), "other files: model.safetensors"),
    ],
)
def test_whatever_differs_from_the_candidate_is_named_and_recorded_once(
    ctx: Context, registry: MemoryRegistry, change: Callable[[MemoryRegistry], object], fault: str
) -> None:
    assert record_content(ctx, "net", "1").fault is None
    assert list(ctx.ledger.all(RegistryFinding)) == []
    change(registry)
    for _ in range(2):
        assert fault in str(record_content(ctx, "net", "1").fault)
    assert len(list(ctx.ledger.all(RegistryFinding))) == 1
    sample.register(registry)
    assert record_content(ctx, "net", "1").fault is None
    assert query_gate(ctx.ledger, "net", "1").answer == "approved"


def test_what_fails_for_one_model_stops_no_other(ctx: Context, registry: MemoryRegistry, clock: FixedClock) -> None:
    set_alias(ctx, "net", "1", ABOUT)
    lost = AliasMove(model="aaa", alias=ALIAS, version="9", because=ABOUT, at=ctx.clock.now())
    ctx.ledger.append(lost, actor="auditsvc")
    clock.forward(minutes=2)
    registry.move_alias("net", ALIAS, "3")
    _, moves, faults = reconcile(ctx, {}, put_back=True)
    assert (registry.aliased("net", ALIAS), [move.model for move in moves]) == ("1", ["net"])
    assert faults == {"aaa": "no version aaa/9"}
