"""Event types follow one scheme, and events of version 0.1.0 are read under their present types."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re

import auditsvc.compliance.assessment
import auditsvc.records
from auditsvc.records import Record
from auditsvc.records.base import EVENT_TYPES_0_1_0, decode_event, encode_event
from tests.fakes import NOON

IN_NO_LOG = {"architecture", "evidence-key"}
"""Kinds of record that are never appended to a ledger."""


def _record_types(of: type[Record] = Record) -> set[type[Record]]:
    for package in (auditsvc.records, auditsvc.compliance.assessment):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = {kind for one in of.__subclasses__() for kind in (one, *_record_types(one))}
    return {kind for kind in found if kind.__module__.startswith("auditsvc.") and hasattr(kind, "kind")}


def test_every_kind_of_record_has_an_event_type_of_its_own() -> None:
    events = {kind.kind: kind.event for kind in _record_types() if kind.kind not in IN_NO_LOG}
    assert len(set(events.values())) == len(events) > 25
    for event in (*events.values(), *EVENT_TYPES_0_1_0.values()):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*", event)


def test_a_kind_of_0_1_0_is_read_under_its_present_type() -> None:
    """Version 0.1.0 used the record's kind as the type of its event."""
    events = {kind.kind: kind.event for kind in _record_types() if kind.kind in EVENT_TYPES_0_1_0}
    assert {kind: EVENT_TYPES_0_1_0[kind] for kind in events} == events


def test_an_event_reads_back() -> None:
    leaf = encode_event("release.created", "ann", NOON, object="sha256:1")
    assert leaf == json.dumps(json.loads(leaf), sort_keys=True, separators=(",", ":")).encode()
    assert decode_event(leaf) == {
        "kind": "auditsvc.event",
        "apiVersion": "2",
        "type": "release.created",
        "actor": "ann",
        "at": "2026-11-22T12:00:00Z",
        "object": "sha256:1",
    }


def test_an_old_event_has_the_present_type_and_other_leaves_are_no_events() -> None:
    old = {"kind": "auditsvc.event", "apiVersion": "1", "type": "came-in", "actor": "ann", "at": "2026-11-22T12:00:00Z"}
    assert decode_event(json.dumps(old).encode()) == old | {"type": "user.logged-in"}
    for leaf in (b"\xff", b"[]", b'{"kind":"hashedrekord"}'):
        assert decode_event(leaf) is None
