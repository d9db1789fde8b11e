"""A release in use is watched by its settings: without labels, without false alarms, each observation once."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json

import numpy as np
import pytest
from PIL import Image

from auditsvc.adapters.observations import SqlObservations
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.evaluation.observation_streams import MOST_VALUES
from auditsvc.records import Decision, Monitoring, Observation
from auditsvc.services.decisions import backtest
from auditsvc.services.gate_query import query_gate
from auditsvc.services.incidents import incident_draft
from auditsvc.services.monitoring import monitor
from auditsvc.services.observations import add_labels, add_observations, parse_observations
from auditsvc.services.watching import (
    WatchDraft,
    confirm_watch,
    mute_alarm,
    open_drift,
    propose_watch,
    queue_due,
    watch_settings,
)
from tests.fakes import NOON, FixedClock
from tests.fakes.jobs import MemoryJobs
from tests.services.conftest import fresh_line
from tests.services.line import data_in, policy
from tests.services.test_line import released

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def used(made_once, folders, tmp_path_factory):
    """A release in use: shared, as every test writes to a ledger and observations of its own."""
    made = fresh_line(made_once, folders, tmp_path_factory.mktemp("used"))
    return made[0], released(made), folders


@pytest.fixture
def world(used, tmp_path):
    ctx, release, folders = used
    own = copy.copy(ctx.ledger)
    vars(own).update({name: copy.copy(held) for name, held in vars(own).items() if isinstance(held, dict | list)})
    store = SqlObservations(f"sqlite:///{tmp_path}/observations.db")
    yield dataclasses.replace(ctx, ledger=own, log=own, watched=store), release, folders
    store.close()


def watch(world, source=None, **more):
    ctx, release, folders = world
    draft = WatchDraft(data=str(folders["audited"]), source=source and str(source), reason="the plan", **more)
    return confirm_watch(ctx, propose_watch(ctx, release, draft, "ann"), "bob")


def pictures(folder, images=30, seed=5, light=1.0, start=0):
    """Images of use: the classes of the audit, of another seed, in less light."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(seed)
    for number in range(start, start + images):
        pixels = (chance.integers(0, 80, (28, 28)) + 150 * (number % 2)) * light
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:04d}.png")
    return folder


def row(number, at=NOON, sure=0.9, **more):
    scores = (sure, 1 - sure) if number % 2 else (1 - sure, sure)
    return Observation(id=f"row-{number}", at=at, scores=scores, **more)


def test_settings_take_two_people_and_the_data_of_the_audit(world, tmp_path):
    ctx, release, folders = world
    draft = WatchDraft(data=str(folders["audited"]), reason="the plan")
    proposal = propose_watch(ctx, release, draft, "ann")
    assert watch_settings(ctx.ledger, release.digest) is None
    with pytest.raises(Conflict, match="another person"):
        confirm_watch(ctx, proposal, "Ann")
    made = confirm_watch(ctx, proposal, "bob")
    assert watch_settings(ctx.ledger, release.digest) == made == confirm_watch(ctx, proposal, "bob")
    with pytest.raises(InvalidInput, match="judged on"):
        propose_watch(ctx, release, draft.model_copy(update={"dataset": release.digest}), "ann")
    with pytest.raises(InvalidInput, match="block_minutes"):
        propose_watch(ctx, release, draft.model_copy(update={"period_minutes": 60.0}), "ann")
    again = propose_watch(
        ctx, release, draft.model_copy(update={"data": str(data_in(tmp_path / "other", seed=8))}), "ann"
    )
    confirm_watch(ctx, again, "bob")
    with pytest.raises(InvalidInput, match="is not the data set"):
        monitor(ctx, release, "mia")


def test_images_like_those_of_the_audit_are_steady_and_darker_ones_are_an_alarm(world, tmp_path):
    ctx, release, _ = world
    source = pictures(tmp_path / "field")
    watch(world, source, parent_share=1.0)
    steady = monitor(ctx, release, "mia")
    assert (steady.outcome, steady.observed.images, steady.reasons) == ("steady", 30, ())
    assert monitor(ctx, release, "mia") == steady  # nothing is new, nothing is counted twice
    streams = {one.stream: one for one in steady.observed.streams}
    assert {"confidence", "brightness", "distance", "classes", "disagreement"} <= streams.keys()
    assert streams["brightness"].audited is not None and steady.observed.churn.images == 30
    estimate = steady.observed.estimate
    assert estimate.accuracy.low <= estimate.accuracy.value - estimate.largest_error + 1e-9
    pictures(source, 30, seed=6, light=0.4, start=30)
    changed = monitor(ctx, release, "mia")
    assert (changed.outcome, changed.observed.images) == ("changed", 60)
    alarms = open_drift(ctx.ledger, release.digest)
    assert "brightness" in {one.stream for one in alarms} and all(one.words in changed.reasons for one in alarms)
    assert monitor(ctx, release, "mia") == changed and open_drift(ctx.ledger, release.digest) == alarms
    answer = query_gate(ctx.ledger, release.model, release.version, at=ctx.clock.now())
    assert answer.answer == "approved" and "brightness changed" in answer.review
    assert not list(ctx.ledger.all(Decision))[1:]


def test_a_mute_has_a_reason_and_an_end_and_new_settings_start_again(world, tmp_path):
    ctx, release, _ = world
    source = pictures(tmp_path / "field", light=0.4)
    watch(world, source)
    monitor(ctx, release, "mia")
    alarms, now = open_drift(ctx.ledger, release.digest), ctx.clock.now()
    with pytest.raises(InvalidInput, match="reason"):
        mute_alarm(ctx, alarms[0], "bob", " ", now + HOUR)
    for until in (now, now + datetime.timedelta(days=200)):
        with pytest.raises(InvalidInput, match="92 days"):
            mute_alarm(ctx, alarms[0], "bob", "known", until)
    for one in alarms:
        mute_alarm(ctx, one, "bob", "a known fault of the lamp", now + HOUR)
    assert open_drift(ctx.ledger, release.digest, now) == ()
    assert open_drift(ctx.ledger, release.digest, now + 2 * HOUR) == alarms
    assert monitor(ctx, release, "mia").outcome == "steady"
    watch(world, pictures(tmp_path / "repaired", seed=9), alpha=0.01)
    assert open_drift(ctx.ledger, release.digest, now + 2 * HOUR) == ()
    again = monitor(ctx, release, "mia")
    assert (again.outcome, again.observed.images) == ("steady", 30)
    draft = incident_draft(alarms[0])
    assert draft["aware"] == alarms[0].at and draft["due"]["death"] < draft["due"]["health"]


def test_rows_are_kept_once_and_faults_refuse_all_of_them(world):
    ctx, release, _ = world
    with pytest.raises(NotFound, match="is not watched"):
        add_observations(ctx, release, [row(1)])
    watch(world)
    rows = [row(number) for number in range(20)]
    assert add_observations(ctx, release, rows).added == 20
    assert add_observations(ctx, release, [*rows, row(20)]).added == 1
    unnamed = row(1).model_copy(update={"id": None, "device": "cam-1"})
    assert [add_observations(ctx, release, [unnamed]).added for _ in range(2)] == [1, 0]
    bad = {
        "2 classes": row(30).model_copy(update={"scores": (0.2, 0.3, 0.5)}),
        "add up to 1": row(31).model_copy(update={"scores": (0.2, 0.2)}),
        "in the future": row(32, at=NOON + datetime.timedelta(days=2)),
        "before the retention": row(33, at=NOON - datetime.timedelta(days=100)),
        "no class": row(34).model_copy(update={"label": "green"}),
    }
    for words, fault in bad.items():
        with pytest.raises(InvalidInput, match="none was") as refused:
            add_observations(ctx, release, [row(40), fault])
        assert words in str(refused.value)
    assert ctx.watched.known(release.digest, ["row-40"]) == frozenset()
    for text in (b"{}", b"[1]", b'[{"at": "2026-01-01T00:00:00Z", "score": [1]}]', b'[{"at": "now"}]', b"\xff"):
        with pytest.raises(InvalidInput, match="no observations"):
            parse_observations(text)


def test_a_log_is_read_again_and_again_and_a_cluster_counts_once(world, tmp_path):
    ctx, release, _ = world
    pictures(tmp_path / "log", 12)
    log = tmp_path / "log" / "answers.jsonl"
    at = NOON.isoformat().replace("+00:00", "Z")
    lines = [{"file": f"{number:04d}.png", "at": at, "cluster": f"visit {number // 3}"} for number in range(12)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"file": "0001.p')
    watch(world, log)
    first = monitor(ctx, release, "mia").observed
    assert (first.images, first.left_out) == (4, 8)
    log.write_text(log.read_text()[: -len('{"file": "0001.p')] + json.dumps({"file": "../x.png", "at": at}) + "\n")
    with pytest.raises(InvalidInput, match="outside of the folder"):
        monitor(ctx, release, "mia")


def test_parquet_rows_are_observations_too(world, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ctx, release, _ = world
    table = {"id": ["a", "b"], "at": [NOON, NOON], "scores": [[0.9, 0.1], [0.2, 0.8]], "device": ["cam-1", None]}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    watch(world, tmp_path / "log.parquet")
    assert monitor(ctx, release, "mia").observed.images == 2


def test_audited_images_are_refused_also_when_they_were_saved_again(world, tmp_path):
    ctx, release, folders = world
    source = pictures(tmp_path / "field", 5)
    audited = np.load(folders["audited"] / "images.npz")["images"]
    Image.fromarray(audited[3]).save(source / "same.png")
    Image.fromarray((audited[4] * 0.5).astype(np.uint8)).save(source / "darker.png")
    watch(world, source)
    assert monitor(ctx, release, "mia").observed.images == 5


def test_a_run_that_was_killed_counts_each_observation_once(world, monkeypatch):
    ctx, release, _ = world
    watch(world)
    add_observations(ctx, release, [row(number) for number in range(50)])
    whole = ctx.ledger.append

    def killed(*records, actor):
        if isinstance(records[0], Monitoring):
            raise KeyboardInterrupt
        whole(*records, actor=actor)

    monkeypatch.setattr(ctx.ledger, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        monitor(ctx, release, "mia")
    monkeypatch.undo()
    add_observations(ctx, release, [row(number) for number in range(40, 70)])
    assert monitor(ctx, release, "mia").observed.images == 70


def test_another_model_and_a_frozen_camera_are_facts(world):
    ctx, release, _ = world
    watch(world, slices=("device",))
    other = "sha256:" + "7" * 64
    seen = [row(n, device="cam-1", image="0" * 16) for n in range(10)]
    seen += [row(100 + n, device="cam-2", image=str(n), model=release.candidate) for n in range(10)]
    add_observations(ctx, release, [*seen, row(200, device="cam-3", model=other)])
    found = monitor(ctx, release, "mia")
    assert {one.stream for one in open_drift(ctx.ledger, release.digest)} >= {
        "camera@device=cam-1",
        "model@device=cam-3",
    }
    assert (found.observed.images, found.observed.left_out) == (20, 1)
    assert {one.stream for one in found.observed.streams} >= {"confidence", "confidence@device=cam-1"}


def test_labels_that_come_later_judge_the_rules_of_the_release(world):
    ctx, release, _ = world
    watch(world)
    rows = [row(number, parent=(0.9, 0.1) if number % 2 else (0.1, 0.9)) for number in range(160)]
    add_observations(ctx, release, rows)
    assert monitor(ctx, release, "mia").observed.accuracy is None
    with pytest.raises(InvalidInput, match="no class"):
        add_labels(ctx, release, {"row-1": "green"})
    right = {f"row-{number}": "dark" if number % 2 else "bright" for number in range(50)}
    assert add_labels(ctx, release, right | {"row-999": "dark"}) == 50
    found = monitor(ctx, release, "mia")
    assert found.observed.accuracy.value == 1.0 and found.observed.accuracy.low > 0.8
    assert {(one.rule, one.verdict) for one in found.judgements} >= {("floor", "met")}
    wrong = {f"row-{number}": "bright" if number % 2 else "dark" for number in range(50, 160)}
    assert add_labels(ctx, release, wrong | right) == 110
    worse = monitor(ctx, release, "mia")
    assert worse.outcome == "worse" and any(reason.startswith("floor") for reason in worse.reasons)


def test_a_release_of_which_nothing_is_heard_any_more_is_not_steady(world, tmp_path):
    ctx, release, _ = world
    watch(world, pictures(tmp_path / "field"))
    assert monitor(ctx, release, "mia").outcome == "steady"
    for passed, outcome in ((20 * HOUR, "steady"), (30 * HOUR, "unknown")):
        later = dataclasses.replace(ctx, clock=FixedClock(NOON + passed))
        found = monitor(later, release, "mia")
        assert found.outcome == outcome and found.observed.images == 30
    assert found.reasons == ("nothing was observed since 2026-11-22T12:00:00+00:00",)


def test_invented_devices_take_no_memory_and_hide_no_change(world):
    """A sender names slices, so whoever wants a change to be missed could name thousands of them first."""
    ctx, release, _ = world
    watch(world, slices=("device",), channels=("confidence",))
    add_observations(ctx, release, [row(one, device=f"invented-{one}") for one in range(MOST_VALUES + 50)])
    rest = range(MOST_VALUES + 50, MOST_VALUES + 550)
    add_observations(ctx, release, [row(one, sure=0.55, device="real") for one in rest])
    found = monitor(ctx, release, "mia").observed
    assert len(found.streams) == 1 + MOST_VALUES
    assert "confidence" in {one.stream for one in open_drift(ctx.ledger, release.digest)}


def test_a_run_is_queued_once_for_each_interval(world):
    ctx = world[0]
    made, jobs = watch(world, every_minutes=60), MemoryJobs()
    for minutes in (0, 1, 30):
        queue_due(ctx.ledger, jobs, NOON + datetime.timedelta(minutes=minutes))
    assert len(jobs.jobs) == 1
    queue_due(ctx.ledger, jobs, NOON + datetime.timedelta(hours=5))  # a pause of hours: one run
    assert len(jobs.jobs) == 2
    assert all(one.request.release == made.release for one in jobs.jobs.values())


def test_a_back_test_replays_decisions_and_not_what_the_monitor_measured(world, tmp_path):
    ctx, release, _ = world
    before = list(backtest(policy(), ctx.ledger))
    monitor(ctx, release, "mia", ctx.datasets.open(data_in(tmp_path / "new", images=120, seed=5)))
    assert list(backtest(policy(), ctx.ledger)) == before and len(before) == 1
